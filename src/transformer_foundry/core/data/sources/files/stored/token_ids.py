"""Files of token ids without a text: raw numbers, as nanoGPT and llm.c write them, and .npy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.document import STREAM_COLUMN
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.kind import DataFile

__all__ = ["TokenIdTable"]

_MOST_SECTIONS_IDS = 4096  # ids of a section of a stream: many rows, and yet many sections for the splits
_FEWEST_SECTIONS_IDS = 256
_SECTIONS = 200
_EXAMINED_IDS = 2**16
_LLM_C = 20240520
_LLM_C_HEADER = 1024  # bytes


class TokenIdTable:
    """The rows of one file of ids: consecutive sections of a stream, or the rows of a matrix.

    Args:
        file: The file.
        options: ``vocab_size`` is the number of ids of the tokenizer that made the file.

    Raises:
        DataError: If ``data.vocab_size`` is not set, or the file holds no ids below it.
    """

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        self._file = file
        self.notes: list[str] = []
        if file.kind.compression is not None:
            raise DataError(
                f"{file.shown} is compressed ({file.kind.compression}); ids are read in place.",
                "Expected a file that is not compressed.",
                "Decompress the file, for example with gunzip.",
            )
        self._values, how = _load_npy(file) if file.kind.format == "npy" else _load_raw(file)
        if not self._values.size:
            raise DataError(f"{file.shown} holds no ids.", "Expected token ids.", "Write the file again.")
        if options.vocab_size is None:
            largest = max(int(part.max()) for part in np.array_split(self._values.ravel(), 64) if part.size)
            raise DataError(
                f"{file.shown} holds token ids ({how}), the largest is {largest}; data.vocab_size is not set.",
                "Expected the number of ids of the tokenizer that made them.",
                f"Set data.vocab_size, for example to {largest + 1} or, of GPT-2, 50257; or data.source to the text.",
            )
        self.notes.append(f"{file.shown} holds {self._values.size:,} token ids ({how}).")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield sections of the stream, or the rows of the matrix."""
        if self._values.ndim == 2:
            yield from ({"input_ids": row.tolist()} for row in self._values)
            return
        size = max(_FEWEST_SECTIONS_IDS, min(_MOST_SECTIONS_IDS, len(self._values) // _SECTIONS))
        for start in range(0, len(self._values), size):
            yield {STREAM_COLUMN: self._values[start : start + size].tolist()}

    def line_of(self, number: int) -> None:
        """Return None: ids have no lines."""
        del number


def _load_npy(file: DataFile) -> tuple[np.ndarray, str]:
    try:
        values = np.load(file.path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as err:
        raise DataError(
            f"{file.shown} cannot be read as an array: {str(err).splitlines()[0]}",
            "Expected whole numbers; arrays of objects are pickled, and reading them would run code.",
            "Write it again: numpy.save(FILE, numpy.array(ids, dtype='uint16')).",
        ) from err
    if values.dtype.kind not in "iu" or values.ndim not in (1, 2):
        raise DataError(
            f"{file.shown} holds {values.dtype} numbers of shape {values.shape}, no token ids.",
            "Expected whole numbers: a stream of ids, or a matrix with a text in each row.",
            "Write the ids as uint16 or uint32, in one or two dimensions.",
        )
    return values, f"{values.dtype}, {' x '.join(map(str, values.shape))}"


def _load_raw(file: DataFile) -> tuple[np.ndarray, str]:
    """Map raw numbers; wider ones than the usual uint16 are recognized by their empty high halves."""
    size = file.path.stat().st_size
    with file.path.open("rb") as source:
        head = np.frombuffer(source.read(min(8 * _EXAMINED_IDS, size // 8 * 8)), "<u2")
    if size >= _LLM_C_HEADER and int(head[0]) | int(head[1]) << 16 == _LLM_C:
        return np.memmap(file.path, "<u2", "r", offset=_LLM_C_HEADER), "uint16 after the header of llm.c"
    if len(head) and len(head) % 4 == 0 and size % 8 == 0 and not head.reshape(-1, 4)[:, 1:].any() and head.any():
        return np.memmap(file.path, "<u8", "r"), "uint64, by its empty high parts"
    high = head[1::2]
    is_wide = len(high) >= 8 and high.max() < 8 and (head[::2].max() > 8 or not high.any()) and head.any()
    if is_wide and size % 4 == 0:
        return np.memmap(file.path, "<u4", "r"), "uint32, by its nearly empty high halves"
    if size % 2:
        raise DataError(
            f"{file.shown} has {size} bytes, an odd number.",
            "Expected token ids of two bytes each (uint16), as nanoGPT writes them.",
            "Write the file again, or give it the ending of what it is.",
        )
    return np.memmap(file.path, "<u2", "r"), "uint16"
