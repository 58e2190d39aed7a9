"""Rows before their columns are chosen: those to examine or to refuse, nested ones, messages, names of splits.

``turn_rows`` joins conversations whose messages are rows, ``nesting`` those whose messages have other keys.
"""
