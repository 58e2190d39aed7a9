"""Rewrite Python loops over time so that they can be exported."""
