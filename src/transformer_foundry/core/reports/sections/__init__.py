"""Compute the values that the templates of the report's sections show; the templates are in ``templates/sections``."""
