"""Checks of attention: heads, scale, normalization."""
