"""Formats of exported files: how each is written, and how a file is opened again.

To add a format, write a module here with two functions, ``ways(source, check)``, which yields the ways to write the
file, and ``open_file(path)``, which returns a function that runs it, and add one entry to ``FORMATS`` in ``table``: all
other code reads that table. Smaller variants of the ONNX file are made in ``variants``.
"""
