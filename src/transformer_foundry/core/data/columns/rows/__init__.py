"""Rows before their columns are chosen: ``row_sample`` selects those to examine, ``annotations`` refuses some."""
