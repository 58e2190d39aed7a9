"""Texts that need no network: profiles of ``countries``, bundled, and ``python_text``, which every CPython has.

``open_text`` opens what ``data.source`` names. ``countries.md`` says where the bundled text is from.
"""
