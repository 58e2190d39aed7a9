"""Capture a module as a graph with dynamic sizes: plainly, or with loops and branches (``control_flow``)."""
