"""Rows of different lengths in two flat, memory-mapped files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from transformer_foundry.core.base.errors import DataError

__all__ = ["ColumnEntry", "ColumnWriter", "RaggedArray", "explain_write_errors", "map_column"]


class RaggedArray:
    """Rows of ids of different lengths: row i is ``values[offsets[i] : offsets[i + 1] + overlap]``.

    Args:
        values: (tokens,) integers.
        offsets: (rows + 1,) int64, ascending.
        overlap: Number of values that a row shares with the next one: 1 for the blocks of a causal language model,
            where the last token of a row is its last target and the first input of the next row.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, overlap: int = 0) -> None:
        self.values = values
        self.offsets = offsets
        self.overlap = overlap

    def __repr__(self) -> str:
        return f"RaggedArray(rows={len(self)}, values={len(self.values)}, dtype={self.values.dtype})"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.values[self.offsets[row] : self.offsets[row + 1] + self.overlap]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def lengths(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the length of every row, or of ``rows``, (rows,) int64."""
        if rows is None:
            return np.asarray(np.diff(self.offsets) + self.overlap, dtype=np.int64)
        return np.asarray(self.offsets[rows + 1] - self.offsets[rows] + self.overlap, dtype=np.int64)

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]]) -> RaggedArray:
        """Return an array in memory."""
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        return cls(np.concatenate([*arrays, np.empty(0, np.int64)]), offsets)


class ColumnEntry(TypedDict):
    """A column file in the index: name, dtype, number of values, and its sha256 (none in earlier versions)."""

    file: str
    dtype: str
    count: int
    sha256: NotRequired[str]


class ColumnWriter:
    """Appends numbers to a raw file; ``close`` flushes it to the disk and describes it for ``map_column``."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._path = path
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._sha256 = hashlib.sha256()
        self.count = 0

    def append(self, values: np.ndarray | Sequence[int] | Sequence[float]) -> None:
        """Add values at the end."""
        array = np.asarray(values, dtype=self._dtype)
        content = array.tobytes()  # numpy's tofile flushes on each call
        self._file.write(content)
        self._sha256.update(content)
        self.count += len(array)

    def close(self) -> ColumnEntry:
        """Flush to the disk and return the description of the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {
            "file": self._path.name,
            "dtype": self._dtype.name,
            "count": self.count,
            "sha256": self._sha256.hexdigest(),
        }


@contextlib.contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Translate an error of writing to ``folder``: usually the disk is full.

    Raises:
        DataError: For an ``OSError``.
    """
    try:
        yield
    except OSError as err:
        existing = next((parent for parent in (folder, *folder.absolute().parents) if parent.is_dir()), Path("/"))
        free = shutil.disk_usage(existing).free / 1e9
        raise DataError(
            f"{folder} cannot be written: {err.strerror or err} ({free:.2f} GB are free).",
            "Expected room for the tokens, about as many bytes as the text has, there and in the temporary folder.",
            "Free disk space, set data_dir or the variable TMPDIR to another disk, or lower data.max_documents.",
        ) from err


def map_column(folder: Path, description: ColumnEntry) -> np.ndarray:
    """Memory-map a file that a ``ColumnWriter`` wrote.

    Raises:
        DataError: If the file is missing, or has another size than it was written with.
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
