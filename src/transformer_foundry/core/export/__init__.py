"""Export a model to files of other runtimes: ``.pt2``, TorchScript, ONNX, quantized ONNX, transformers.

``export_model`` writes any module in several formats and keeps only those that a fresh process finds equal to it. Begin
with ``exporter``; each format is written in ``formats``, captured in ``capture`` and compared in ``verification``.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "FORMAT_FILES": "names",
        "export_model": "exporter",
        "parity_figure": "verification.report",
        "parity_table": "verification.report",
    },
)
