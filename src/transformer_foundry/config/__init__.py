"""Configuration: loader, sections of the parameters, options of the hooks.

The options of each section are in the ``options.py`` of its part; ``parameters`` lists them.
"""
