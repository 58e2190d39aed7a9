"""What annotators decided about a row: whether it is accepted, rejected or left aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.columns.cells import is_missing, items_of
from transformer_foundry.core.data.columns.prompts.template import parse_template
from transformer_foundry.core.data.options import DataOptions

__all__ = ["RESPONSES", "find_annotation", "is_accepted", "refuse_native", "warn_of_annotation"]

_VALUES = {
    "answer": frozenset(("accept", "reject", "ignore")),  # Prodigy
    "status": frozenset(("submitted", "completed", "discarded", "draft", "pending")),  # Argilla
}
# A status alone may be that of a claim or an order.
_ARGILLA = frozenset(("fields", "responses", "suggestions", "external_id", "_server_id", "annotation_agent"))
_ACCEPTED = ("accept", "submitted", "completed")
RESPONSES = ".responses"
"""What the name of the column of the answers to a question ends with in a table of Argilla."""
_ANNOTATED = frozenset(("label", "labels", "spans", "accept", "options", "entities", "_task_hash", "_input_hash"))


def find_annotation(rows: Sequence[Mapping[str, Any]], options: DataOptions) -> str | None:
    """Return the column that says whether annotators accepted a row, None if there is none.

    It stands beside what was annotated: alone beside a text it is a class. A column in the options is read as they say.

    Args:
        rows: The examined rows.
        options: May name the column.
    """
    names = {name for row in rows for name in row}
    used = {options.text_column, options.target_column, options.label_column, options.pair_column}
    used.update(options.label_columns or ())
    used.update(() if options.template is None else parse_template(options.template).names)
    if not _ANNOTATED.intersection(names) and not any(name.endswith(RESPONSES) for name in names):
        return None
    for name in sorted(names - used):
        if name.lower() == "status" and not any(_is_of_argilla(other) for other in names):
            continue
        known = _VALUES.get(name.lower())
        said = {_cell(row.get(name)) for row in rows if not is_missing(row.get(name))}
        if known is not None and said and said <= known and said.intersection(_ACCEPTED):
            return name
    return None


def is_accepted(value: object) -> bool:
    """Return whether a cell says that a row is accepted; an empty one does not say the contrary."""
    return is_missing(value) or _cell(value) in _ACCEPTED


def warn_of_annotation(
    rows: Iterable[Mapping[str, Any]], column: str, source: str, *, needs_labels: bool, are_all: bool = True
) -> list[str]:
    """Return a sentence about the rows that are left out, none if all are accepted; reads all rows.

    Args:
        rows: All rows, or the first of a stream.
        column: The column that says what annotators decided.
        source: Name of the table in messages.
        needs_labels: Whether a classifier is trained.
        are_all: Whether ``rows`` are all; the first ones give no count and no reason to refuse the data.

    Raises:
        DataError: If all rows have one label: then the decision is what a classifier has to learn.
    """
    refused, labels = Counter[str](), set[str]()
    for row in rows:
        if not is_accepted(row.get(column)):
            refused[_cell(row.get(column))] += 1
        if isinstance(row.get("label"), str) and len(labels) < 2:
            labels.add(row["label"])
    if not refused:
        return []
    if needs_labels and are_all and len(labels) == 1 and refused["reject"]:
        label = labels.pop()
        raise DataError(
            f"All rows of {source} have the label {label!r}; column {column} says whether it applies.",
            "Expected different labels, or the answers accept and reject as the classes.",
            f"Set data.label_column={column} to learn whether {label!r} applies.",
        )
    if not are_all:
        return [
            f"Rows that annotators did not accept (column {column}: {', '.join(sorted(refused))}) are left out;"
            " remove the column to read all."
        ]
    kinds = ", ".join(f"{value} {count}" for value, count in sorted(refused.items()))
    return [
        f"{counted(refused.total(), 'row')} that annotators did not accept (column {column}: {kinds})"
        f" {'is' if refused.total() == 1 else 'are'} left out; remove the column to read all."
    ]


def refuse_native(rows: Sequence[Mapping[str, Any]], source: str) -> None:
    """Raise an error if rows are tasks of Label Studio with all their annotations, of which none is a column."""
    if any("result" in item for row in rows for item in items_of(row.get("annotations"))):
        raise DataError(
            f"{source} is the JSON of Label Studio with the annotations of each task inside it.",
            "Expected a column of labels.",
            "Export it from Label Studio as JSON-MIN or CSV.",
        )


def _is_of_argilla(name: str) -> bool:
    return name in _ARGILLA or name.endswith((RESPONSES, ".suggestion"))  # of a question, in a table


def _cell(value: object) -> str:
    return str(value).strip().lower()
