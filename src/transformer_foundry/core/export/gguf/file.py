"""Write, read and compare GGUF files with the package ``gguf``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Value", "difference", "read_gguf", "write_gguf"]

Value = str | bool | int | float | Sequence[str] | Sequence[int]
"""A value of the metadata: string, bool, uint32, float32, or an array of strings or of int32."""

_ARCHITECTURE = "general.architecture"
# What the reader adds: facts of the file itself.
_OF_THE_FILE = "GGUF."


def write_gguf(path: Path, architecture: str, metadata: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> None:
    """Write a file with all tensors in float32; the same values give the same bytes.

    Args:
        path: The file.
        architecture: llama.cpp's name of the architecture.
        metadata: Key -> value, without ``general.architecture``.
        tensors: Name -> tensor; GGUF lists their sizes in reverse.
    """
    import gguf

    writer: Any = gguf.GGUFWriter(path, architecture)
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in metadata.items():
        add.get(type(value), writer.add_array)(key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.detach().float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return metadata and tensors (float32) of a file."""
    import gguf

    reader: Any = gguf.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith(_OF_THE_FILE)}
    # The reader maps the file into memory; a copy outlives it.
    tensors = {item.name: torch.from_numpy(np.array(item.data, dtype=np.float32)) for item in reader.tensors}
    return metadata, tensors


def difference(path: Path, architecture: str, metadata: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> str:
    """Return in what a file differs from what was to be written, empty if in nothing."""
    found, read = read_gguf(path)
    expected: dict[str, Any] = {**metadata, _ARCHITECTURE: architecture}
    if names := sorted(expected.keys() ^ found.keys()):
        return f"its metadata differ in the key {names[0]}"
    for key, value in expected.items():
        same = found[key] == (float(np.float32(value)) if isinstance(value, float) else value)
        if not same:
            return f"its {key} differs"
    if names := sorted(tensors.keys() ^ read.keys()):
        return f"it differs in the tensor {names[0]}"
    wrong = [name for name, tensor in tensors.items() if not torch.equal(tensor.detach().float(), read[name])]
    return f"its tensor {wrong[0]} differs" if wrong else ""
