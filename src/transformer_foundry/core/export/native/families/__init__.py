"""Architectures of transformers, each with what it needs and how weights get their names in it.

To add one, write a function here that returns a ``candidate.Candidate``, or ``candidate.Needs`` if the model lacks
something, and add it to ``FAMILIES`` of ``recognize`` under its task. ``proof`` decides whether the model is one.
"""
