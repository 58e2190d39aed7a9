"""What is inside the cells that are read, or beside them, and is not read: keys of messages and of nested records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.base.text import counted, short_list
from transformer_foundry.core.data.columns.cells import (
    is_missing,
    item_text,
    items_of,
    read_turns,
    text_of,
    unread_items,
)
from transformer_foundry.core.data.columns.roles import is_text_beside, role_of
from transformer_foundry.core.data.document import Columns

__all__ = ["Unread", "find_unread"]

_DEEPEST = 8

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Unread:
    """What the cells of a table hold besides what is read.

    Attributes:
        keys: Keys inside the columns that are read, such as ``messages[].name``.
        warnings: Sentences about those that hold text, and about pictures and other parts of messages.
    """

    keys: tuple[str, ...]
    warnings: tuple[str, ...]


def find_unread(rows: Rows, chosen: Columns, left: Sequence[str]) -> Unread:
    """Return what is not read of the lists inside cells: keys of records, and all answers but the first.

    Args:
        rows: The examined rows, flattened.
        chosen: The columns that are read.
        left: The columns that are not.
    """
    read, weights_are_read = chosen.names(), chosen.learned != "all" or not chosen.is_joined
    values, parts = dict[str, list[Any]](), Counter[str]()
    for row in rows:
        known = [text_of(row.get(name)) for name in read]
        for name in read:
            for key, value in unread_items(row.get(name), weights_are_read=weights_are_read):
                if key.startswith("content[]."):
                    parts[key.removeprefix("content[].")] += not isinstance(value, str)
                is_part = key.startswith("content[].")
                for path, inner in _leaves(f"{name}[].{key}", value, 0 if is_part else _DEEPEST):
                    values.setdefault(path, []).append(inner)
        for path, value in _inside(row, left):
            if not any(text_of(value).strip() in text for text in known):
                values.setdefault(path, []).append(value)
    texts = [path for path, found in values.items() if is_text_beside([{path: value} for value in found], path)]
    warnings = []
    if texts:
        warnings.append(
            f"{short_list(texts)} hold{'s' * (len(texts) == 1)} text that is not read; write it into a column of its"
            " own, or into the content of a message."
        )
    if parts.total():
        kinds = short_list([kind for kind, count in parts.items() if count])
        warnings.append(
            f"In {counted(len(rows), 'examined row')}, {counted(parts.total(), 'part')} of messages ({kinds})"
            f" {'is' if parts.total() == 1 else 'are'} no text and not read."
        )
    references = _count_unread_references(rows, chosen)
    if references:
        warnings.append(
            f"Column {chosen.target} holds several answers to one prompt: the first is learned, {references} others in"
            f" {counted(len(rows), 'examined row')} are not; write a row for each to learn them all."
        )
    inside = tuple(path for path in values if path.split("[]", 1)[0] in read)
    return Unread(inside, tuple(warnings))


def _inside(row: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield path and value of what the lists of records in columns hold: ``completions[].response``."""
    for name in names:
        for item in items_of(row.get(name)):
            yield from _leaves(f"{name}[]", item)


def _leaves(path: str, value: Any, depth: int = _DEEPEST) -> Iterator[tuple[str, Any]]:
    """Yield path and value of what records hold that are in each other: ``answers[].body.text``."""
    if isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner, depth - 1)
    elif depth and (items := items_of(value)):
        for inner in items:
            yield from _leaves(f"{path}[]", inner, depth - 1)
    elif not is_missing(value):
        yield path, value


def _count_unread_references(rows: Rows, chosen: Columns) -> int:
    """Return how many answers differ from the first of their list, which alone is read."""
    if chosen.template is None or chosen.target is None or role_of(chosen.target, ("q", chosen.target)) != "answer":
        return 0
    values = (row.get(chosen.target) for row in rows)
    lists = [value for value in values if isinstance(value, list | tuple) and read_turns(value) is None]
    distinct = [{text.strip() for text in map(item_text, value) if text.strip()} for value in lists]
    return sum(max(0, len(texts) - 1) for texts in distinct)
