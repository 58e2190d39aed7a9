"""Rewrite Python loops over time so that they can be captured: begin with ``patch_code``."""
