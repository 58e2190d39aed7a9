"""Verify the files of a preparation against its index: once a process, while they stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenized.memmap import ColumnEntry, map_column
from transformer_foundry.core.files.digests import FileState, sha256_once, state_of

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import Index

__all__ = ["damaged_tokens", "verify_files"]

_BLOCK = 2**24
"""Ids that are looked at at once: 32 MB of uint16."""

_in_range: set[FileState] = set()
"""Files without a digest whose ids were looked at in this process."""


def verify_files(index: Index, folder: Path) -> None:
    """Compare every file that ``index`` describes with its sha256.

    Of files that version 0.1.0 wrote before it kept digests, only ids out of range can be found.

    Args:
        index: The index of the preparation.
        folder: The folder with the files.

    Raises:
        DataError: If a file is missing, or differs from what was written.
    """
    for split in index["splits"].values():
        for name, column in split["columns"].items():
            path = folder / column["file"]
            if "sha256" not in column:
                _require_range(name, column, split["columns"], folder, index["vocab_size"])
            elif not path.is_file() or sha256_once(path) != column["sha256"]:
                raise damaged_tokens(path)


def damaged_tokens(path: Path) -> DataError:
    """Return the error of a file that differs from what was written."""
    return DataError(
        f"{path} is damaged: it differs from what was written.",
        "Expected the bytes whose sha256 was noted when the data were prepared.",
        "Run the data_engineering pipeline again: it makes the tokens anew.",
    )


def _require_range(
    name: str, column: ColumnEntry, columns: Mapping[str, ColumnEntry], folder: Path, vocab_size: int
) -> None:
    path = folder / column["file"]
    values = map_column(folder, column)
    if len(values) == 0 or (state := state_of(path)) in _in_range:
        return
    if name.endswith("_offsets"):
        rows = columns[f"{name.removesuffix('_offsets')}_ids"]
        is_sound = bool(values[0] >= 0 and values[-1] <= rows["count"] and np.all(np.diff(values) >= 0))
    else:
        limit = vocab_size if name.endswith("_ids") else np.iinfo(values.dtype).max
        is_sound = all(
            int(values[start : start + _BLOCK].max()) <= limit - 1 for start in range(0, len(values), _BLOCK)
        )
    if not is_sound:
        raise damaged_tokens(path)
    _in_range.add(state)
