"""A column that names the split of each row, such as ``split`` with train, dev and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import is_missing
from transformer_foundry.core.data.columns.prompts.template import parse_template
from transformer_foundry.core.data.columns.roles import LABEL_NAMES, words_of
from transformer_foundry.core.data.options import DataOptions

__all__ = ["SPLIT_WORDS", "find_split_column", "is_named_as_split", "split_of", "words_for_splits"]

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
_FLAG_WORDS = _SPLITS | {"holdout": "test", "heldout": "test"}
_PREFIXES, _SUFFIXES = ("is", "in"), ("set", "split", "data", "fold")
_AMBIGUOUS = ("is_valid", "isvalid")  # of a row that is correct, or of one for validation
_FLAGS = dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True) | dict.fromkeys(
    ("0", "0.0", "false", "no", "f", "n"), False
)
_MOST_SPLITS = 5
_MOSTLY = 0.5  # share of the rows; the reader names the row with another value


def split_of(value: object, column: str = "") -> str | None:
    """Return the split that a cell names; None if it names none.

    Args:
        value: The cell.
        column: Its column: below ``is_test``, 1 or yes is test, 0 or no is train; below ``is_train``, 0 is test.

    Example:
        >>> split_of("Dev "), split_of("fast train"), split_of(0, "is_train")
        ('validation', None, 'test')
    """
    found = _SPLITS.get(value.strip().lower()) if isinstance(value, str) else None
    flagged, flag = _flagged_split(column), _FLAGS.get(str(value).strip().lower())
    if found is not None or flagged is None or flag is None:
        return found
    return flagged if flag else "test" if flagged == "train" else "train"


def is_named_as_split(name: str) -> bool:
    """Return whether a name is one for splits, such as ``dataset_split`` or ``is_test``."""
    return (words_of(name) or [""])[-1] in _NAMES or _is_named_as_flag(name)


def words_for_splits(column: str) -> str:
    """Return what a cell of a column for splits may hold, for messages."""
    words = ", ".join(word for words in SPLIT_WORDS.values() for word in words)
    return words if _flagged_split(column) is None else f"1 and 0 (or yes and no), or of {words}"


def _is_named_as_flag(name: str) -> bool:
    has_prefix = words_of(name)[:1] in ([word] for word in _PREFIXES) and name.lower() not in _AMBIGUOUS
    return has_prefix and _flagged_split(name) is not None


def _flagged_split(name: str) -> str | None:
    """Return the split of which a column of yes and no would tell whether a row is in it."""
    words = words_of(name)
    words = words[1:] if words[:1] and words[0] in _PREFIXES else words
    words = words[:-1] if len(words) > 1 and words[-1] in _SUFFIXES else words
    return _FLAG_WORDS.get(words[0]) if len(words) == 1 else None


def find_split_column(
    rows: Sequence[Mapping[str, Any]], options: DataOptions, source: str, *, is_split: bool = False
) -> str | None:
    """Return the column that could name the split of each row: that of the options, else by its first cells.

    Args:
        rows: The examined rows of the table.
        options: A column that they use otherwise is none.
        source: Name of the table in messages.
        is_split: Whether the files give the splits already; then no column has to be clear.

    Raises:
        DataError: If the column in the options is missing, or columns may mark the split but do not clearly.
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
    if is_split:
        return next(iter(named or found), None)
    _require_clear_flags(rows, names, named, used)
    # With other values than yes and no: the reader names the row.
    unclear = [name for name in names if name not in used and _is_named_as_flag(name) and _has_cells(rows, name)]
    return next(iter(named or found or unclear), None)


def _require_clear_flags(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], named: Sequence[str], used: set[str | None]
) -> None:
    """Raise an error if several columns of yes and no mark the split, or one does that may mean something else."""
    marks = [name for name in named if _flagged_split(name) is not None]
    if len(marks) > 1:
        raise DataError(
            f"Columns {short_list(marks)} mark the split of a row by yes and no.",
            "Expected one column that names the split: train, validation or test.",
            f"Write such a column, or set data.split_column={marks[0]} ('' to draw the splits).",
        )
    numbered = next((name for name in names if name not in used and _numbers_splits(rows, name)), None)
    if numbered is not None and not named:
        found = short_list(sorted({str(row[numbered]) for row in rows}))
        raise DataError(
            f"Column {numbered} has numbers, which name no split: {found}.",
            "Expected train, validation and test.",
            "Write these words, or set data.split_column='' to draw the splits.",
        )
    flags = [name for name in names if rows and all(str(row.get(name)).strip().lower() in _FLAGS for row in rows)]
    has_label = any(name.lower() in LABEL_NAMES for name in names) or bool(used - {None})
    for name in flags if not named else ():
        # Among labels of 0 and 1, train may be one.
        if name not in used and name.lower() in _FLAG_WORDS and (has_label or len(flags) == 1):
            raise DataError(
                f"Column {name} has only yes and no ({short_list(sorted({str(row[name]) for row in rows}))}), which may"
                " mark the split of a row.",
                "Expected data.split_column to say whether it does.",
                f"Set data.split_column={name} to hold them out, or data.split_column='' to draw the splits.",
            )


def _numbers_splits(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether a column called split has few whole numbers."""
    found = {str(row.get(name)).strip() for row in rows}
    return words_of(name)[-1:] == ["split"] and 1 < len(found) <= _MOST_SPLITS and all(map(str.isdecimal, found))


def _has_cells(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return not all(is_missing(row.get(name)) for row in rows)


def _could_be(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    count = sum(split_of(row.get(name), name if is_named_as_split(name) else "") is not None for row in rows)
    if is_named_as_split(name):
        return count > _MOSTLY * len(rows)
    return count == len(rows) and name.lower() not in LABEL_NAMES
