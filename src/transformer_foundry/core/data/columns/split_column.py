"""A column that names the split of each row, such as ``split`` with train, dev and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import is_missing
from transformer_foundry.core.data.columns.prompts.template import parse_template
from transformer_foundry.core.data.columns.roles import LABEL_NAMES, words_of
from transformer_foundry.core.data.columns.rows.split_words import SPLIT_WORDS, complements, is_only_a_split, split_in
from transformer_foundry.core.data.options import DataOptions

__all__ = ["SplitColumn", "find_split_column", "split_of"]

_SPLITS = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_NAMES = frozenset(("split", "splits", "set", "subset", "partition", "fold"))
_FLAG_WORDS = _SPLITS | {"holdout": "test", "heldout": "test"}
_WHOLE_NAMES = frozenset(("ml_use", "usage"))  # of Vertex AI and of contests
_PREFIXES, _SUFFIXES = ("is", "in"), ("set", "split", "data", "fold", "mask")
_MARK = "mask"  # train_mask needs no prefix
_AMBIGUOUS = ("is_valid", "isvalid")  # of a row that is correct, or of one for validation
_NUMBERED = ("split", "partition")
_NO_SPLIT = frozenset(("", "unassigned", "none", "null", "nan", "na", "n/a", "-", "?", "unknown", "unused"))
_FLAGS = dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True) | dict.fromkeys(
    ("0", "0.0", "false", "no", "f", "n"), False
)
_MOST_SPLITS = 5
_MOSTLY = 0.5  # share of the rows; the reader names the row with another value
_MOST_VALUES = 20  # of a column that names splits


@dataclass(frozen=True)
class SplitColumn:
    """A column that names the split of each row.

    Attributes:
        name: The column.
        splits: Value of a cell -> split, for spellings that only the column or other values explain.
        is_sure: Whether another value is an error, and not a sign that the column is something else.
    """

    name: str
    splits: Mapping[str, str] = field(default_factory=dict)
    is_sure: bool = True

    def split_of(self, cell: object) -> str | None:
        """Return the split that a cell names; None if it names none."""
        return self.splits.get(_key(cell)) or split_of(cell, self.name if is_named_as_split(self.name) else "")

    @property
    def words(self) -> str:
        """What a cell may hold, for messages."""
        words = "train, validation (also valid, val, dev, eval) or test"
        return words if _flagged_split(self.name) is None else f"1 and 0 (or yes and no), or of {words}"


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
    last = (words_of(name) or [""])[-1]
    return last in _NAMES or name.lower() in _WHOLE_NAMES or _is_named_as_flag(name)


def _is_named_as_flag(name: str) -> bool:
    words = words_of(name)
    is_marked = words[:1] in ([word] for word in _PREFIXES) or words[1:][-1:] == [_MARK]
    return is_marked and name.lower() not in _AMBIGUOUS and _flagged_split(name) is not None


def _flagged_split(name: str) -> str | None:
    """Return the split of which a column of yes and no would tell whether a row is in it."""
    words = words_of(name)
    words = words[1:] if words[:1] and words[0] in _PREFIXES else words
    words = words[:-1] if len(words) > 1 and words[-1] in _SUFFIXES else words
    return _FLAG_WORDS.get(words[0]) if len(words) == 1 else None


def find_split_column(
    rows: Sequence[Mapping[str, Any]], options: DataOptions, source: str, *, is_split: bool = False
) -> tuple[SplitColumn | None, list[str]]:
    """Return the column that could name the split of each row, and sentences about those that only look like it.

    It is that of the options, else one whose name or values are those of splits.

    Args:
        rows: The examined rows of the table: all values of columns with few.
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
        return (SplitColumn(given, _spellings(_values(rows, given), given)) if given else None), []
    used = {options.text_column, options.target_column, options.label_column, options.pair_column}
    used.update(options.label_columns or ())
    used.update(() if options.template is None else parse_template(options.template).names)
    warnings: list[str] = []
    found = [column for name in names if name not in used and (column := _examine(rows, name, warnings)) is not None]
    named = [column for column in found if is_named_as_split(column.name)]
    if is_split:
        return next(iter(named or found), None), []
    _require_clear_flags(rows, names, [column.name for column in named], used)
    return next(iter(named or found), None), [] if found else warnings


def _examine(rows: Sequence[Mapping[str, Any]], name: str, warnings: list[str]) -> SplitColumn | None:
    """Return a column if it names splits; add a sentence to ``warnings`` if only some of its values do."""
    values = _values(rows, name)
    filled = [value for value in values if value.lower() not in _NO_SPLIT]
    is_named = is_named_as_split(name)
    if not 0 < len(filled) <= _MOST_VALUES or (not is_named and name.lower() in LABEL_NAMES):
        return None
    if _is_named_as_flag(name):
        return SplitColumn(name)
    splits = _spellings(filled, name if is_named else "")
    if len(splits) < len(filled):  # a train station beside a bus is no split
        splits = {
            value: split for value, split in splits.items() if split_of(value) or (is_named and is_only_a_split(value))
        }
    kinds, others = set(splits.values()), [value for value in filled if value not in splits]
    has_two = "train" in kinds and len(kinds) > 1
    known = sum(_key(row.get(name)) in splits for row in rows)
    if is_named and not others and len(kinds) == 1 and len({value.lower() for value in filled}) > 1:
        warnings.append(f"Column {name} has only {kinds.pop()}, as {short_list(filled, 3)}: the splits are drawn.")
        return None
    if not others and len(values) == len(filled):
        return SplitColumn(name, splits, is_sure=is_named or has_two)
    if not others and (is_named or has_two):
        return SplitColumn(name, splits)
    if is_named and splits and (len(kinds) > 1 or known > _MOSTLY * len(rows)):
        return SplitColumn(name, splits)
    if has_two or (is_named and splits):
        warnings.append(
            f"Column {name} has {short_list(list(splits), 3)}, as a column of splits has, but also"
            f" {short_list(others, 3)}: it is not used. If it gives the splits, correct it and set"
            f" data.split_column={name}."
        )
    return None


def _spellings(values: Sequence[str], named: str) -> dict[str, str]:
    """Return the split of each value that names one; below a column of another name, names must say nothing else."""
    if any(value.lower().endswith(("invalid", "not valid")) for value in values):
        values = [value for value in values if value.lower() != "valid"]
    found = {value: split for value in values if (split := split_of(value, named)) is not None}
    exact, beside = set(found.values()), complements(values)
    for value in values:
        split = split_in(value) if named or is_only_a_split(value) else None
        split = split or (beside.get(value) if named or split_in(value) else None)
        # test_scaffolds beside test is a test of another kind.
        if split is not None and value not in found and split not in exact:
            found[value] = split
    return found


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Return the different values of a column, of missing cells an empty one."""
    return list(dict.fromkeys(_key(row.get(name)) for row in rows))


def _key(cell: object) -> str:
    return "" if is_missing(cell) else str(cell).strip()


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
        is_flag = name.lower() in _FLAG_WORDS or name.lower() in _AMBIGUOUS
        if name not in used and is_flag and len(_values(rows, name)) > 1 and (has_label or len(flags) == 1):
            raise DataError(
                f"Column {name} has only yes and no ({short_list(sorted({str(row[name]) for row in rows}))}), which may"
                " mark the split of a row.",
                "Expected data.split_column to say whether it does.",
                f"Set data.split_column={name} to hold them out, or data.split_column='' to draw the splits.",
            )


def _numbers_splits(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether a column called split has few whole numbers."""
    found = {str(row.get(name)).strip() for row in rows}
    return {*words_of(name)[-1:]} <= {*_NUMBERED} and 1 < len(found) <= _MOST_SPLITS and all(map(str.isdecimal, found))
