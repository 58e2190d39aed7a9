"""The rows that columns are chosen from: the first, some of every part of the table, and all that bring something new.

A table may be sorted by class or by origin: what is filled, and with which values, differs from part to part.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from transformer_foundry.core.data.limits import LONGEST_LINE, size_of

__all__ = ["sample_rows"]

Row = Mapping[str, Any]
_Keys = dict[str, Any]

_SPREAD_ROWS = 100  # at least as many, at most twice as many, at equal distances
_FEW_VALUES = 20  # of a column; of another with more, new values are nothing new
_MOST_NEW_ROWS = 400  # besides those with the first value of a column
_MOST_KEYS = 50  # of records that are written as text
_LONGEST_CELL = 1000  # characters of a row that is kept after many large ones
_KEY_OF_JSON = re.compile(r"""["'](\w+)["']\s*:""")
_PLAIN = (str, int, float, bytes)
_KIND = "type"  # of a part of a message


def sample_rows(rows: Iterable[Row], first: Sequence[Row]) -> list[Row]:
    """Return the first rows, then, in order, rows at equal distances, each that brings something new, and the last.

    All rows are read. New is the first value of a column, another value of a column with few, or a key of the records
    in a cell.

    Args:
        rows: All rows.
        first: The first of them.
    """
    seen, left = _Seen(), LONGEST_LINE
    for row in first:
        seen.is_new(row)
        left -= size_of(row)
    new, spread, distance = dict[int, Row](), dict[int, Row](), 1
    last = dict[int, Row]()
    for number, row in enumerate(itertools.islice(rows, len(first), None)):
        last = {number: row}
        if seen.is_new(row) and (seen.is_first_value or len(new) < _MOST_NEW_ROWS):
            size = size_of(row)
            new[number] = row if size < left else _cut(row)
            left -= size
        elif number % distance == 0 and size_of(row) < LONGEST_LINE / _SPREAD_ROWS:
            spread[number] = row
            if len(spread) > 2 * _SPREAD_ROWS:
                distance *= 2
                spread = {number: row for number, row in spread.items() if number % distance == 0}
    last = {number: row if size_of(row) < LONGEST_LINE / _SPREAD_ROWS else _cut(row) for number, row in last.items()}
    found = last | spread | new
    return [*first, *(found[number] for number in sorted(found))]


class _Seen:
    """What the rows have held so far.

    Attributes:
        is_first_value: Whether the last row has the first value of a column.
    """

    def __init__(self) -> None:
        self.is_first_value = False
        self._values: dict[str, set[object] | None] = {}  # None: too many
        self._keys: dict[str, _Keys] = {}
        self._records: set[str] = set()

    def is_new(self, row: Row) -> bool:
        """Return whether a row holds what no row before it does, and remember it."""
        self.is_first_value = False
        return self._are_new(row)

    def _are_new(self, row: Row, prefix: str = "") -> bool:
        is_new, columns = False, self._values
        for key, value in row.items():
            if value is None or value == "":
                continue
            name = prefix + key if prefix else key
            known = columns.get(name, ())
            if isinstance(value, Mapping):
                is_new |= self._are_new(value, f"{name}.")
            elif isinstance(value, list | tuple):
                is_new |= self._are_new_items(name, value)
            elif known is None:
                is_new |= name in self._records and self._has_new_keys(name, str(value))
            elif value == value and (value if isinstance(value, _PLAIN) else type(value)) not in known:
                is_new |= self._is_new_value(name, value)
        return is_new

    def _is_new_value(self, name: str, value: object) -> bool:
        known = self._values.setdefault(name, set())
        assert known is not None
        self.is_first_value |= not known
        if isinstance(value, str) and value.lstrip()[:1] == "[" and "{" in value:
            self._records.add(name)
            self._has_new_keys(name, value)
        if len(known) >= _FEW_VALUES:
            self._values[name] = None
            return False
        known.add(value if isinstance(value, _PLAIN) else type(value))
        return True

    def _are_new_items(self, name: str, items: Sequence[Any]) -> bool:
        if not items:
            return False
        is_first = name not in self._keys
        self.is_first_value |= is_first
        return _add_keys(self._keys.setdefault(name, {}), items) or is_first

    def _has_new_keys(self, name: str, text: str) -> bool:
        known = self._keys.setdefault(name, {})
        found = set(_KEY_OF_JSON.findall(text)) - known.keys()
        if not found or len(known) > _MOST_KEYS:
            return False
        known |= {key: {} for key in found}
        return True


def _add_keys(known: _Keys, items: Sequence[Any]) -> bool:
    """Add the filled keys of records in a list, and of the records in these; return whether one is new."""
    is_new = False
    for item in items:
        if isinstance(item, Mapping):
            if known and known.keys().isdisjoint(item):  # another kind of thing, such as the report of an error
                continue
            for key, value in _filled(item):
                mark = f"{key}={value}" if key == _KIND and isinstance(value, str) else key
                if mark not in known and (mark == key or len(known) <= _MOST_KEYS):
                    known[mark] = {}
                    is_new = True
                if isinstance(value, list | tuple):
                    is_new |= _add_keys(known[mark], value)
    return is_new


def _filled(item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in item.items() if value is not None and value != "")


def _cut(row: Row) -> Row:
    """Return a row without the ends of its long texts and lists."""
    return {
        name: value[:_LONGEST_CELL] if isinstance(value, str) else value[:1] if isinstance(value, list) else value
        for name, value in row.items()
    }
