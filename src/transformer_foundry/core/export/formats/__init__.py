"""Formats of exported files: how each is written, and how a file is opened again.

To add a format, write a module here with two functions, ``ways(source, check)``, which yields the ways to write the
file, and ``open_file(path)``, which returns a function that runs it, and add one entry to ``FORMATS`` in ``table``:
export, verification and the parameter ``deployment.formats`` read that table. The model card needs a snippet
(``publishing/package/model_card.md.jinja``; a test asks for it), and a format with a second file beside ``.data`` an
entry in ``core.export.files``. Smaller variants of the ONNX file are made in ``variants``.
"""
