"""A column that names the split of each row, such as ``split`` with train, dev and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.prompts.template import parse_template
from transformer_foundry.core.data.columns.roles import LABEL_NAMES, words_of
from transformer_foundry.core.data.options import DataOptions

__all__ = ["SPLIT_WORDS", "find_split_column", "is_named_as_split", "split_of"]

SPLIT_WORDS = {
    "train": ("train", "training", "trainset"),
    "validation": (
        "validation",
        "valid",
        "val",
        "dev",
        "eval",
        "validate",
        "valset",
        "devset",
        "evalset",
        "publictest",
    ),
    "test": ("test", "testing", "testset", "devtest", "privatetest"),
}
"""Split -> words for it in the names of files and in cells."""

_SPLITS = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_NAMES = frozenset(("split", "splits", "set", "subset", "partition", "fold"))
_MOSTLY = 0.5  # share of the rows; the reader names the row with another value


def split_of(value: object) -> str | None:
    """Return the split that a cell names; None if it names none.

    Example:
        >>> split_of("Dev "), split_of("fast train")
        ('validation', None)
    """
    return _SPLITS.get(value.strip().lower()) if isinstance(value, str) else None


def is_named_as_split(name: str) -> bool:
    """Return whether the last word of a name is one for a split, as in ``dataset_split``."""
    return (words_of(name) or [""])[-1] in _NAMES


def find_split_column(rows: Sequence[Mapping[str, Any]], options: DataOptions, source: str) -> str | None:
    """Return the column that could name the split of each row: that of the options, else by its first cells.

    Args:
        rows: The first rows of the table.
        options: A column that they use otherwise is none.
        source: Name of the table in messages.

    Raises:
        DataError: If the column in the options is missing.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    given = options.split_column
    if given is not None:
        if given and given not in names:
            raise DataError(
                f"{source} has no column {given} (data.split_column).{suggestion(given, names)}",
                f"Its columns: {short_list(names)}.",
                "Set data.split_column to one of them, or to null.",
            )
        return given or None
    used = {options.text_column, options.target_column, options.label_column, options.pair_column}
    used.update(options.label_columns or ())
    used.update(() if options.template is None else parse_template(options.template).names)
    found = [name for name in names if name not in used and _could_be(rows, name)]
    named = [name for name in found if is_named_as_split(name)]
    return next(iter(named or found), None)


def _could_be(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    count = sum(split_of(row.get(name)) is not None for row in rows)
    if is_named_as_split(name):
        return count > _MOSTLY * len(rows)
    return count == len(rows) and name.lower() not in LABEL_NAMES
