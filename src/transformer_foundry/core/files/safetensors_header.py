"""Make the bytes of safetensors files depend on their content only."""

from __future__ import annotations

import json
from pathlib import Path

from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.files.plain_files import plain_opener

__all__ = ["sort_metadata"]

_LENGTH_BYTES = 8


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file, which ``safetensors`` writes in a random order, in that of their names.

    The tensors and the size of the header stay as they are, so that the file is changed in place.

    Args:
        path: The file: the size of the header as little-endian uint64, the header as JSON, the tensors.

    Raises:
        ValueError: If the header has another size afterwards: something else than ``safetensors`` wrote it.
    """
    with open(path, "r+b", opener=plain_opener) as file:
        size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(size))
        if "__metadata__" not in header:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(written.rstrip()) > size:
            raise ValueError(f"The header of {path.name} has {len(written)} bytes instead of {size}.")
        file.seek(_LENGTH_BYTES)
        # safetensors pads the header with spaces to a multiple of eight bytes.
        file.write(written.ljust(size))
    sync(path)
