"""Export a model to files of other runtimes: ``.pt2``, TorchScript, ONNX, quantized ONNX, transformers.

``export_model`` writes any module in several formats and keeps only those that a fresh process finds equal to it. Begin
with ``exporter``; each format is written in ``formats``, captured in ``capture`` and compared in ``verification``.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.export.exporter import export_model as export_model
    from transformer_foundry.core.export.names import FORMAT_FILES as FORMAT_FILES
    from transformer_foundry.core.export.verification.report import parity_figure as parity_figure
    from transformer_foundry.core.export.verification.report import parity_table as parity_table
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
