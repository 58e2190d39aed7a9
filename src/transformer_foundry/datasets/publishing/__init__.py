"""Kedro datasets of what others get: the package of a model, in a folder or on the Hub, and the registry."""
