"""Which columns of a table hold the text, the target and the label, and how a row becomes a document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.data.documents import Document
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.errors import DataError, suggestion

__all__ = ["Columns", "choose_columns", "flatten", "to_document"]

Row = Mapping[str, Any]

_TEXT_NAMES = ("text", "content", "document", "sentence", "body", "article", "review", "comment", "message", "story")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "emotion", "y")
_PAIR_NAMES = (
    ("source", "target"),
    ("src", "tgt"),
    ("input", "output"),
    ("inputs", "targets"),
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("article", "highlights"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("text", "target"),
)
_CLEARLY_LONGER = 3.0  # a column this many times longer than any other is the text
_INDEX_COLUMN = "__index_level_0__"  # pandas makes one when rows have more fields than the header


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a task reads; None where it reads none."""

    text: str
    target: str | None = None
    label: str | None = None


def choose_columns(rows: Sequence[Row], task: str, options: DataOptions, source: str) -> Columns:
    """Choose the columns for ``task``: those that the options name, else by usual names, else by content.

    Args:
        rows: The first rows of the table, flattened.
        task: What the documents are for.
        options: May name the columns.
        source: What to call the table in messages.

    Raises:
        DataError: If a named column is missing, or none can be told from the others.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if _INDEX_COLUMN in names:
        raise DataError(
            f"The rows of {source} have more fields than its header, which names: {_list(names)}.",
            "Expected as many fields in a row as in the header.",
            "Quote fields that hold a comma, or correct the header.",
        )
    for key in ("text_column", "target_column", "label_column"):
        wanted = getattr(options, key)
        if wanted is not None and wanted not in names:
            raise DataError(
                f"{source} has no column {wanted} (data.{key}).{suggestion(wanted, names)}",
                f"Its columns: {_list(names)}.",
                f"Set data.{key} to one of them.",
            )
    textual = [name for name in names if _average_length(rows, name) > 0]
    if task == "seq2seq_lm":
        return _choose_pair(names, textual, options, source)
    if task == "sequence_classification":
        label = options.label_column or _choose_label(names, options.text_column, source)
        others = [name for name in textual if name != label]
        return Columns(options.text_column or _choose_text(rows, others, names, source), label=label)
    return Columns(options.text_column or _choose_text(rows, textual, names, source))


def flatten(row: Row) -> dict[str, Any]:
    """Return a row whose nested columns are named like ``translation.en``."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": item for inner, item in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def to_document(row: Row, columns: Columns, where: Callable[[], str]) -> Document:
    """Return the document that a flattened row holds.

    Args:
        row: The row.
        columns: Which columns to read.
        where: Says where the row is, for messages.

    Raises:
        DataError: If the label is missing or no label.
    """
    label = None if columns.label is None else _label(row.get(columns.label), columns.label, where)
    target = None if columns.target is None else _text(row.get(columns.target))
    return Document(_text(row.get(columns.text)), target, label)


def _choose_text(rows: Sequence[Row], textual: list[str], names: list[str], source: str) -> str:
    known = _named(textual, _TEXT_NAMES)
    if known is not None:
        return known
    ranked = sorted(textual, key=lambda name: -_average_length(rows, name))
    if len(ranked) == 1:
        return ranked[0]
    if ranked and _average_length(rows, ranked[0]) >= _CLEARLY_LONGER * _average_length(rows, ranked[1]):
        return ranked[0]
    problem = "could each be the text" if ranked else "none of which holds text"
    raise DataError(
        f"{source} has the columns {_list(ranked or names)}, {problem}.",
        "Expected one column of text.",
        "Name it: data.text_column=NAME.",
    )


def _choose_label(names: list[str], text: str | None, source: str) -> str:
    known = _named([name for name in names if name != text], _LABEL_NAMES)
    if known is not None:
        return known
    others = [name for name in names if name != (text or _named(names, _TEXT_NAMES))]
    if len(names) == 2 and len(others) == 1:
        return others[0]
    raise DataError(
        f"No column of {source} is named like a label; its columns: {_list(names)}.",
        f"Expected one such as {', '.join(_LABEL_NAMES[:4])}.",
        "Name it: data.label_column=NAME.",
    )


def _choose_pair(names: list[str], textual: list[str], options: DataOptions, source: str) -> Columns:
    text, target = options.text_column, options.target_column
    lowered = {name.lower(): name for name in reversed(names)}
    for first, second in _PAIR_NAMES:
        if first in lowered and second in lowered:
            pair = lowered[first], lowered[second]
            if text in (None, pair[0]) and target in (None, pair[1]):
                return Columns(*pair)
    left = [name for name in textual if name not in (text, target)]
    if len(left) == sum(name is None for name in (text, target)):
        waiting = iter(left)
        return Columns(text or next(waiting), target or next(waiting))
    raise DataError(
        f"Which columns of {source} are source and target cannot be told; columns: {_list(names)}.",
        "Expected two columns of text.",
        "Name them: data.text_column=NAME,data.target_column=NAME.",
    )


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in known if name in lowered), None)


def _average_length(rows: Sequence[Row], name: str) -> float:
    texts = [_text(row.get(name)) for row in rows if isinstance(row.get(name), str | list)]
    return sum(map(len, texts)) / max(len(rows), 1)


def _text(value: Any) -> str:
    """Return the text of a cell: words are joined by blanks, a missing one is empty."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple):
        return " ".join(item for item in value if isinstance(item, str))
    return str(value)


def _label(value: Any, column: str, where: Callable[[], str]) -> int | str:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    raise DataError(
        f"{where()}: the label (column {column}) is {'missing' if missing else repr(value)}.",
        "Expected a class: a name or a whole number.",
        "Fill in or remove the row, or choose another column with data.label_column.",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
