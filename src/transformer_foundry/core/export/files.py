"""Files of an exported model: their names, and what the manifest records of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformer_foundry.core.files.atomic import sha256_of

__all__ = [
    "CALL_FILE",
    "DATA_SUFFIX",
    "EXPORT_CONFIG_FILE",
    "FORMAT_VERSION",
    "GGUF_FILE",
    "LOADER_FILE",
    "MODELFILE",
    "NATIVE_FOLDER",
    "VERIFY_FILE",
    "delete_file",
    "describe_file",
    "needs_data_file",
]

FORMAT_VERSION = 1
"""Version of the layout of a manifest."""

EXPORT_CONFIG_FILE = "export_config.json"
"""The model's own ``config.json``: the package's is the one of transformers, if transformers can load the package."""

LOADER_FILE = "load_example.py"

CALL_FILE = "model_call.py"

NATIVE_FOLDER = "native"
"""Folder of a package that holds the model in its native architecture, complete in itself."""

GGUF_FILE = "model.gguf"

MODELFILE = "Modelfile"
"""What Ollama reads to make a model of ``model.gguf``."""

VERIFY_FILE = "verify_files.py"

DATA_SUFFIX = ".data"
"""Suffix of the separate file of an ONNX file's weights."""

# A protobuf message cannot be larger than 2 GiB; the graph needs some of it too.
_LARGEST_MESSAGE = 2**31 - 2**26


def needs_data_file(size_bytes: int) -> bool:
    """Return whether an ONNX file with weights of that size must keep them in a separate file."""
    return size_bytes > _LARGEST_MESSAGE


def describe_file(path: Path) -> dict[str, Any]:
    """Return name, sha256 and size of a file, and of the separate file of its weights if there is one."""
    described = {"file": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    data = path.with_name(path.name + DATA_SUFFIX)
    return described | ({"data": describe_file(data)} if data.is_file() else {})


def delete_file(path: Path) -> None:
    """Delete a file and the separate file of its weights."""
    for file in (path, path.with_name(path.name + DATA_SUFFIX)):
        file.unlink(missing_ok=True)
