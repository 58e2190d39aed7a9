"""Packing of documents into rows of one length: no token is lost, and few documents are cut.

Rows are consecutive blocks of one stream. The next document of the stream is chosen by best fit among those that wait
(as in Ding et al. 2024, "Fewer Truncations Improve Language Modeling"). If none fits into the rest of a row, a document
is cut and continues in the next row, so every row except the last is full.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

import numpy as np

__all__ = ["BestFitPacker", "block_offsets"]

_WAITING_TOKENS = 2**20  # more gives hardly fewer cuts and takes memory: a million tokens are 4 MB


class BestFitPacker:
    """Reorders documents so that they end where rows end.

    Args:
        row_length: Tokens of a row that are in no other row.
        waiting_tokens: Largest number of tokens that may wait.

    Attributes:
        cut_documents: Number of documents that were cut although they fit into one row.
    """

    def __init__(self, row_length: int, waiting_tokens: int = _WAITING_TOKENS) -> None:
        assert row_length > 0, row_length
        self._row_length = row_length
        self._limit = waiting_tokens
        self._short: defaultdict[int, deque[np.ndarray]] = defaultdict(deque)
        self._lengths = (
            0  # bit n is set where a document of n tokens waits: the best fit is one operation on an integer
        )
        self._long: deque[np.ndarray] = deque()
        self._waiting = 0
        self._room = row_length
        self.cut_documents = 0

    def add(self, document: np.ndarray) -> Iterator[np.ndarray]:
        """Add ``document``, (tokens,) ids with its special tokens, and yield the documents that are next."""
        self._add(document)
        while self._waiting > self._limit:
            yield self._next()

    def flush(self) -> Iterator[np.ndarray]:
        """Yield all documents that still wait."""
        while self._waiting:
            yield self._next()

    def _add(self, document: np.ndarray) -> None:
        length = len(document)
        self._waiting += length
        if length > self._row_length:
            self._long.append(document)
        else:
            self._short[length].append(document)
            self._lengths |= 1 << length

    def _next(self) -> np.ndarray:
        fitting = self._lengths & ((2 << self._room) - 1)
        if self._long and (not fitting or self._room == self._row_length):
            document = self._long.popleft()
        elif fitting:
            document = self._take(self._choose(fitting))
        else:
            document = self._take(self._lengths.bit_length() - 1)
            self.cut_documents += 1
        self._waiting -= len(document)
        # The rest of the last row of the document; after a full row, a new row.
        self._room = self._row_length - (self._row_length - self._room + len(document)) % self._row_length
        return document

    def _choose(self, fitting: int) -> int:
        """Return the longer of two lengths that together fill the row, else the longest that fits."""
        longest = fitting.bit_length() - 1
        if longest == self._room or self._room == self._row_length:
            return longest
        while fitting:
            length = fitting.bit_length() - 1
            rest = self._room - length
            if rest > length:
                break
            if self._lengths >> rest & 1 and (rest != length or len(self._short[length]) > 1):
                return length
            fitting &= ~(1 << length)
        return longest

    def _take(self, length: int) -> np.ndarray:
        waiting = self._short[length]
        document = waiting.popleft()
        if not waiting:
            self._lengths &= ~(1 << length)
        return document


def block_offsets(tokens: int, length: int, overlap: int) -> np.ndarray:
    """Return the starts of the blocks of ``length`` in a stream, and the end of the last block without overlap.

    Example:
        >>> block_offsets(8, 4, overlap=1).tolist()  # rows 0..3, 3..6, 6..7
        [0, 3, 6, 7]
    """
    end = tokens - overlap
    return np.append(np.arange(0, end, length - overlap, dtype=np.int64), np.int64(max(end, 0)))
