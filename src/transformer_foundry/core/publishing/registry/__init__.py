"""The local registry of model versions and their aliases."""
