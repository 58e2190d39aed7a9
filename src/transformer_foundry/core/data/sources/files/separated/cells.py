"""Types of the cells of a text table: numbers and lists where a whole column holds them, else text as it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from transformer_foundry.core.base.python_text import parse_literal

__all__ = ["WrittenFloat", "WrittenList", "converters"]

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NEIGHBORS = re.compile(r"(?:'\s+'|\"\s+\")")
_QUOTED = re.compile(r"'([^']*)'")
_NUMPY_LIST = re.compile(r"\[\s*'[^']*'(?:\s+'[^']*')*\s*\]")
_PADDED = re.compile(r"[+-]?0\d")  # 007 is a code, not a number


class WrittenFloat(float):
    """A number that keeps how it was written: 1.50 stays 1.50 where it is used as text."""

    __slots__ = ("_written",)

    def __new__(cls, written: str) -> WrittenFloat:
        """Parse ``written``."""
        number = super().__new__(cls, written)
        number._written = written
        return number

    _written: str

    def __repr__(self) -> str:
        return self._written

    __str__ = __repr__


class WrittenList(list[Any]):
    """A list that keeps how it was written, for where it is used as text."""

    def __init__(self, items: Sequence[Any], written: str) -> None:
        super().__init__(items)
        self._written = written

    def __str__(self) -> str:
        return self._written


def converters(rows: Sequence[Sequence[str]]) -> dict[int, Callable[[str], object]]:
    """Return how to convert the cells of columns that hold only numbers, only True and False, or only lists, by place.

    A cell that does not fit stays text, so nothing is lost: "NA" is not a number, and not missing either. An empty
    cell of such a column is None.

    Args:
        rows: The first rows, all of one width.

    Example:
        >>> found = converters([["007", "1", "2.50"], ["8", "", "3"]])
        >>> sorted(found), found[1](""), found[1]("NA"), found[2]("2.50")
        ([1, 2], None, 'NA', 2.50)
    """
    found: dict[int, Callable[[str], object]] = {}
    for place in range(len(rows[0]) if rows else 0):
        values = [row[place] for row in rows if row[place]]
        if not values:
            continue
        if all(value in ("True", "False") for value in values):
            found[place] = _to_bool
        elif all(_is_whole(value) for value in values):
            found[place] = _to_int
        elif all(_DECIMAL.fullmatch(value) and not _PADDED.match(value) and _is_kept(value) for value in values):
            found[place] = _to_float
        elif all(value[0] in "[(" and value[-1] in "])" and _parse_list(value) is not None for value in values):
            found[place] = _to_list
    return found


def _is_whole(value: str) -> bool:
    return len(value) < 20 and value.lstrip("-").isdecimal() and str(int(value)) == value


def _is_kept(value: str) -> bool:
    """Return whether a float keeps a number, if it is whole: keys of 20 digits would become one."""
    return not value.lstrip("+-").isdecimal() or int(float(value)) == int(value)


def _to_int(value: str) -> object:
    if not value:
        return None
    return int(value) if _is_whole(value) else value


def _to_float(value: str) -> object:
    if not value:
        return None
    return WrittenFloat(value) if _DECIMAL.fullmatch(value) and _is_kept(value) else value


def _to_bool(value: str) -> object:
    return {"True": True, "False": False, "": None}.get(value, value)


def _to_list(value: str) -> object:
    if not value:
        return None
    items = _parse_list(value)
    return value if items is None else WrittenList(items, value)


def _parse_list(value: str) -> list[Any] | None:
    """Return the items of a list written by json, Python or numpy (which puts no commas between them)."""
    for parse in (json.loads, parse_literal):
        try:
            items = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        # Python joins neighboring strings: ['a' 'b'] would be one word.
        if isinstance(items, list | tuple) and not _NEIGHBORS.search(value):
            return list(items)
    return _QUOTED.findall(value) if _NUMPY_LIST.fullmatch(value) else None
