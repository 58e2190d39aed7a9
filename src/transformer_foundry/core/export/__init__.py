"""Export a model to files of other runtimes: ``.pt2``, TorchScript, ONNX, quantized ONNX, transformers, GGUF.

``core.export.formats`` says how to add a format.

``export_model`` writes any module in several formats and keeps only the files that a fresh process finds equal to it.
To follow one exported file, say ONNX, read these in order:

1. ``exporter``: reference cases, then each format
2. ``format_export``: write one file, start its verification, fall back on failure
3. ``formats.table``: which module writes and opens which format
4. ``formats.onnx``: the ways to write an ONNX file, and how it is opened
5. ``capture.export_source``: the module with its named dimensions, captured at an example
6. ``capture.torch_export``: the call of ``torch.export``, with the patches that it needs
7. ``verify_file``: the process that loads and runs the file
8. ``verification.parity``: shapes, reference cases and their comparison

Models with loops over time or branches on values also go through ``capture.control_flow`` and ``loops``.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.export.exporter import export_model as export_model
    from transformer_foundry.core.export.formats.table import FORMAT_FILES as FORMAT_FILES
    from transformer_foundry.core.export.verification.report import parity_figure as parity_figure
    from transformer_foundry.core.export.verification.report import parity_table as parity_table
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
