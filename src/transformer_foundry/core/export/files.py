"""Names and digests of the files of a package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "CALL_FILE",
    "CARD_FILE",
    "DATA_SUFFIX",
    "EXPORT_CONFIG_FILE",
    "FORMAT_VERSION",
    "LOADER_FILE",
    "MANIFEST_FILE",
    "file_sha256",
    "list_files",
    "needs_data_file",
    "write_json",
]

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
CARD_FILE = "README.md"
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


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``sha256`` and ``size_bytes`` of every file in ``folder`` but the manifest, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_FILE)
    return {path.name: {"sha256": file_sha256(path), "size_bytes": path.stat().st_size} for path in files}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON: a number that is infinite or none is a mistake."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
