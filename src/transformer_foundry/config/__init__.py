"""Configuration: the loader, the sections of the parameters, and the options of hooks."""
