"""Prompts in tables: which columns are their ``parts`` and ``choices``, and the ``template`` that joins them.

Begin with ``parts``.
"""
