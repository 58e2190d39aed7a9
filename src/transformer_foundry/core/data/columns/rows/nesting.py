"""Nested rows, such as the articles, paragraphs and questions of SQuAD: one row for each inner item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.nested import flatten
from transformer_foundry.core.data.columns.cells import read_turns
from transformer_foundry.core.data.columns.roles import role_of

__all__ = ["find_nesting", "unfold"]

_MOST_LEVELS = 4


def find_nesting(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns to unfold, from the outside to the inside: lists of mappings with parts of prompts.

    Args:
        rows: The examined rows of the table.
    """
    path: list[str] = []
    while len(path) < _MOST_LEVELS:
        flat = [item for row in rows for item in unfold(row, path)]
        names = dict.fromkeys(name for row in flat for name in row)
        found = [name for name in names if _is_nested(flat, name)]
        if len(found) != 1:
            break
        path += found
    return tuple(path)


def unfold(row: Mapping[str, Any], path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the flattened rows of a nested row: each inner item, with the values around it."""
    flat = flatten(row)
    if not path:
        yield flat
        return
    items = flat.pop(path[0], None) or ()
    for item in items:
        yield from unfold({**flat, **item}, path[1:])


def _is_nested(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name)]
    if not values or role_of(name) in ("answer", "rejected"):
        return False
    if not all(isinstance(value, list | tuple) and isinstance(value[0], Mapping) for value in values):
        return False
    is_prompt = any(role_of(key) for value in values for item in value for key in item)
    return is_prompt and read_turns(values[0]) is None
