"""Names of formats and of the files that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


__all__ = [
    "CALL_FILE",
    "DATA_SUFFIX",
    "EXPORT_CONFIG_FILE",
    "FORMAT_FILES",
    "FORMAT_VERSION",
    "LOADER_FILE",
    "MANIFEST_FILE",
    "TRANSFORMERS_FORMAT",
    "needs_data_file",
]


TRANSFORMERS_FORMAT = "transformers"
"""Name of this format in ``deployment.formats`` and in the manifest."""


FORMAT_VERSION = 1


MANIFEST_FILE = "manifest.json"


EXPORT_CONFIG_FILE = "export_config.json"
"""The model's own ``config.json``; the package's is that of transformers where the package can be loaded by it."""


LOADER_FILE = "load_example.py"


CALL_FILE = "model_call.py"


DATA_SUFFIX = ".data"
"""What the name of an ONNX file's weights ends in, where they lie in a file of their own."""


# A protobuf message cannot be larger than 2 GiB; the graph needs some of it too.
_LARGEST_MESSAGE = 2**31 - 2**26


def needs_data_file(size_bytes: int) -> bool:
    """Return whether an ONNX file with weights of that size must keep them in a file of their own."""
    return size_bytes > _LARGEST_MESSAGE


FORMAT_FILES = {
    "pytorch": "model.safetensors",
    "pt2": "model.pt2",
    "onnx": "model.onnx",
    "torchscript": "model.torchscript.pt",
    "onnx-fp16": "model-fp16.onnx",
    "onnx-int8": "model-int8.onnx",
}
"""Format -> name of its file in a package."""


VARIANT_FORMATS = ("onnx-fp16", "onnx-int8")
"""Smaller, not equal: they are made from the ONNX file and judged by what they predict."""
