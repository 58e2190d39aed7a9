"""Formats of exported files: how each is written, and how a file is opened again.

To add a format:

1. Write a module here with two functions: ``ways(source, check)`` yields the ways to write the file, the best first,
   and ``open_file(path)`` returns a function that runs it. A library that it needs goes into ``pyproject.toml`` and
   ``constraints.txt`` (then ``make lock``), and into ``PACKAGES`` of ``core.system.environment``; the exceptions that
   it raises for a model that it cannot write, into ``EXPORTER_ERRORS`` of ``core.export.capture.torch_export``.
2. Add an entry to ``FORMATS`` in ``table``: export, verification and the choices and default of ``deployment.formats``
   follow from it. If a file of the format has a second one beside it that is not named ``FILE.data``, add that to
   ``core.export.files``.
3. Add a snippet to ``publishing/package/model_card.md.jinja`` (a test asks for it), and the format to the table of
   formats in ``docs/export.md``.

To add a smaller variant of the ONNX file, such as ``onnx-bf16``:

1. Write a function in ``smaller_onnx`` that makes the file from the ONNX file, and add an entry to ``WRITERS`` there.
   ``variants`` writes, scores and keeps or deletes it; ``ways`` of a format has no part in it.
2. Add an entry to ``FORMATS`` in ``table``, like that of ``onnx-fp16``: the module ``onnx`` opens it.
3. Add it to the table of formats in ``docs/export.md``. The model card follows from its entry in the manifest; so does
   the file of the browser page (``chooseFile`` of ``publishing/package/templates/model.js``): of a large
   model the smallest that does not compute in half precision.

``cached_onnx`` is no format of its own: the file with a cache that it writes is proved equal to the ONNX file.
"""
