"""Configuration: loader, sections of the parameters, options of the hooks."""
