"""The HTTP server of a package: ``server.py`` starts it, and the modules beside it are imported by it.

A package has all of these files in its own folder, beside ``inference.py``.
"""
