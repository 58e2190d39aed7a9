"""Rows of unequal length in two flat files, memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_foundry.core.errors import DataError

__all__ = ["ColumnWriter", "Ragged", "map_column"]


class Ragged:
    """Rows of ids: row i is ``values[offsets[i] : offsets[i + 1] + overlap]``.

    Args:
        values: (tokens,) integers.
        offsets: (rows + 1,) int64, ascending.
        overlap: How many values a row shares with the next one: 1 for the blocks of a causal language model, where
            the last token of a row is its last target and the first input of the next row.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, overlap: int = 0) -> None:
        self.values = values
        self.offsets = offsets
        self.overlap = overlap

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.values[self.offsets[row] : self.offsets[row + 1] + self.overlap]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def lengths(self) -> np.ndarray:
        """Return the length of every row, (rows,) int64."""
        return np.asarray(np.diff(self.offsets) + self.overlap, dtype=np.int64)

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        """Build one in memory."""
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        return cls(np.concatenate([*arrays, np.empty(0, np.int64)]), offsets)


class ColumnWriter:
    """Append integers to a raw file; ``close`` makes it durable and describes it for ``map_column``."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self._path = path
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self.count = 0

    def append(self, values: np.ndarray | Sequence[int]) -> None:
        """Add values at the end."""
        array = np.asarray(values, dtype=self._dtype)
        array.tofile(self._file)
        self.count += len(array)

    def close(self) -> dict[str, Any]:
        """Flush to the disk and return the description of the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"file": self._path.name, "dtype": self._dtype.name, "count": self.count}


def map_column(folder: Path, description: dict[str, Any]) -> np.ndarray:
    """Memory-map a file that a ``ColumnWriter`` wrote.

    Raises:
        DataError: If the file is missing or has another size than it was written with.
    """
    path, dtype = folder / description["file"], np.dtype(description["dtype"])
    expected = description["count"] * dtype.itemsize
    found = path.stat().st_size if path.exists() else None
    if found != expected:
        raise DataError(
            f"{path} has {'no' if found is None else found} bytes.",
            f"Its index says {expected}.",
            "Run the data_engineering pipeline again.",
        )
    if expected == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")
