"""What a record of data may hold and a file may decode to, the same for all formats: small files must not fill memory.

Limits count what is in memory (characters, columns, objects, decoded bytes), not bytes of the file.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import format_size

__all__ = [
    "FEW_CHARACTERS",
    "LARGEST_ROW",
    "LONGEST_LINE",
    "MOST_COLUMNS",
    "MOST_OBJECTS",
    "DecodedSize",
    "explain_memory",
    "first_rows",
    "has_many_objects",
    "size_of",
]

LONGEST_LINE = 16 * 2**20
"""Characters of a line or cell of a table; readers keep several copies of a line in memory."""
LARGEST_ROW = 4 * LONGEST_LINE
"""Bytes of a row of a binary format: a character takes up to four."""
MOST_COLUMNS = 2**14
"""Columns of a table, as in Excel."""
MOST_OBJECTS = 2**18
"""Objects and lists of a record of JSON: two characters of it become 64 bytes."""
FEW_CHARACTERS = 2 * MOST_OBJECTS
"""Of a text that cannot have more objects."""

_TEXT_OF_JSON = re.compile(r'"(?:[^"\\]|\\.)*"')
_KeptRow = TypeVar("_KeptRow", bound=Mapping[str, Any])
_ANY_SIZE = 256 * 2**20
_LARGEST_RATIO = 1000  # deflate reaches 1,032 on a file of one byte
_ROW_BYTES = 64  # of an empty row


class DecodedSize:
    """Counts what is decoded from a file, and refuses it above 256 MiB and a thousand times the size of the file.

    Args:
        shown: Name of the file in messages.
        size: Its size in bytes.
    """

    def __init__(self, shown: str, size: int) -> None:
        self._shown, self._size = shown, size
        self._most = max(_ANY_SIZE, _LARGEST_RATIO * size)
        self._count = 0

    def add(self, size: int, rows: int = 1) -> None:
        """Count ``rows`` rows of ``size`` bytes together.

        Raises:
            DataError: If it is too much.
        """
        self._count += size + _ROW_BYTES * rows
        if self._count > self._most:
            raise DataError(
                f"{self._shown} ({format_size(self._size)}) has rows of more than {format_size(self._most)}, decoded.",
                f"Expected at most {_LARGEST_RATIO:,} times the size of the file.",
                "Write the rows to a plain file, such as jsonl, if the file is yours.",
            )


@contextlib.contextmanager
def explain_memory(shown: str) -> Iterator[None]:
    """Turn a ``MemoryError`` while ``shown`` is read into a ``DataError``."""
    try:
        yield
    except MemoryError as err:
        raise DataError(
            f"{shown} does not fit into memory: reading it needs more than is free.",
            "Expected texts and rows that are small compared with the memory.",
            "Split long texts, or run on a machine with more memory.",
        ) from err


def has_many_objects(text: str) -> bool:
    """Return whether JSON has more objects and lists than a record may have."""
    if text.count("{") + text.count("[") <= MOST_OBJECTS:
        return False
    bare = _TEXT_OF_JSON.sub("", text)
    return bare.count("{") + bare.count("[") > MOST_OBJECTS


def first_rows(rows: Iterable[_KeptRow], count: int) -> list[_KeptRow]:
    """Return the first ``count`` rows, fewer if together they have more than ``LONGEST_LINE`` characters and values."""
    found, left = [], LONGEST_LINE
    for row in rows:
        found.append(row)
        left -= size_of(row)
        if len(found) == count or left < 0:
            break
    return found


def size_of(value: object) -> int:
    """Return the number of characters and values of nested data."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(1 + len(str(name)) + size_of(item) for name, item in value.items())
    return sum(map(size_of, value)) if isinstance(value, (list, tuple)) else 1
