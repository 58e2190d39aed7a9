"""Verdicts about answers, as KTO has them: a column that says whether the answer of a row is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.columns.cells import is_missing, text_of
from transformer_foundry.core.data.columns.prompts.template import parse_template
from transformer_foundry.core.data.columns.roles import role_of, words_of
from transformer_foundry.core.data.document import Columns

__all__ = ["find_verdict", "is_refused", "warn_of_verdict"]

Rows = Sequence[Mapping[str, Any]]

_NAMES = frozenset(
    (
        *(
            "correct",
            "is_correct",
            "is_right",
            "is_chosen",
            "is_preferred",
            "is_accepted",
            "accepted",
            "is_good",
            "good",
        ),
        *("is_desirable", "desirable", "thumbs_up", "chosen", "preferred", "correctness"),
    )
)
_LABELS = ("label", "labels")
_FALSE, _TRUE = ("false", "no"), ("true", "yes")


def find_verdict(rows: Rows, names: Sequence[str], chosen: Columns) -> str | None:
    """Return the column that says whether the answers of rows are right, None if there is none.

    Its name says so (``is_correct``), or it is a label of true and false, as KTO has it. Of 0 and 1 in a label it is
    not known which is which.

    Args:
        rows: The examined rows, flattened.
        names: The columns.
        chosen: The columns that are read.
    """
    if chosen.template is None or chosen.target is None or len(parse_template(chosen.template).names) < 2:
        return None
    if role_of(chosen.target, ("q", chosen.target)) != "answer":
        return None
    for name in names:
        said = _values(rows, name)
        is_named = "_".join(words_of(name)) in _NAMES and said <= {*_FALSE, *_TRUE, "0", "1", "0.0", "1.0"}
        is_kto = name.lower() in _LABELS and said <= {*_FALSE, *_TRUE}
        if name not in chosen.names() and said and (is_named or is_kto):
            return name
    return None


def is_refused(row: Mapping[str, Any], verdict: str) -> bool:
    """Return whether the verdict about the answer of a row is that it is wrong."""
    return text_of(row.get(verdict)).strip().lower() in (*_FALSE, "0", "0.0")


def warn_of_verdict(rows: Rows, names: Sequence[str], chosen: Columns) -> list[str]:
    """Return a warning if answers are left out, or may have to be."""
    if chosen.verdict is not None:
        count = sum(is_refused(row, chosen.verdict) for row in rows)
        found = f"{counted(count, 'answer')} of {counted(len(rows), 'examined row')}"
        remedy = f"data.target_column={chosen.target} learns all"
        return [f"Answers that column {chosen.verdict} calls wrong are left out ({found}); {remedy}."] if count else []
    label = next((name for name in names if name.lower() in _LABELS and name not in chosen.names()), None)
    is_prompt = chosen.template is not None and chosen.target is not None and chosen.target != chosen.text
    if label is None or not is_prompt or _values(rows, label) != {"0", "1"}:
        return []
    return [
        f"Column {label} holds 0 and 1 and is not read: if it says which answers are right, the wrong ones are learned"
        " too; write it as true and false to leave them out."
    ]


def _values(rows: Rows, name: str) -> set[str]:
    return {text_of(row.get(name)).strip().lower() for row in rows if not is_missing(row.get(name))}
