"""Rows and cells that are no data, or not what was typed: sums and notes below a table, dates of a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import is_missing, text_of
from transformer_foundry.core.data.columns.roles import is_running_text

__all__ = ["warn_of_footer", "warn_of_mixed_classes"]

Rows = Sequence[Mapping[str, Any]]

_LAST_ROWS = 3
_FEW_ROWS = 10
_SUM = re.compile(
    r"(?:(?:grand |sub)?totals?|sum|summe|gesamt|insgesamt|total g\u00e9n\u00e9ral|average|mean|\(\d+ rows?\)):?",
    re.IGNORECASE,
)
_NOTE = re.compile(
    r"(?:source|note|notes|quelle|exported|generated|downloaded|created)\b[: ].*", re.IGNORECASE | re.DOTALL
)
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?: 00:00:00)?|\d{1,2}-(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-\d\d",
    re.IGNORECASE,
)
_MOST_DATES = 0.5  # share of the classes
_TRUTHS = ("true", "false")


def warn_of_footer(rows: Rows, text: str, source: str) -> list[str]:
    """Return a sentence if one of the last rows is a sum or a note on the table, such as ``Total``.

    Args:
        rows: The examined rows, the last of the table among them.
        text: The column of the texts.
        source: Name of the table in messages.
    """
    if len(rows) < _FEW_ROWS or not is_running_text(rows, text):
        return []
    others = {name for row in rows[:_FEW_ROWS] for name, cell in row.items() if name != text and not _is_blank(cell)}
    for row in rows[-_LAST_ROWS:] if others else ():  # lines of plain text have no sums
        cell = text_of(row.get(text)).strip()
        is_alone = all(_is_blank(row.get(name)) for name in others)
        if _SUM.fullmatch(cell) or (_NOTE.fullmatch(cell) and is_alone):
            return [
                f"One of the last rows of {source} looks like a sum or a note on the table ({cell[:40]!r}), and is read"
                " like the others: remove it if it is no data."
            ]
    return []


def warn_of_mixed_classes(rows: Rows, label: str) -> list[str]:
    """Return sentences if some classes are dates, which spreadsheets make of 4-5, or true stands beside 'TRUE'."""
    values = [value for row in rows if not _is_blank(value := row.get(label))]
    names = sorted({text_of(value).strip() for value in values})
    dates = [name for name in names if _DATE.fullmatch(name)]
    found = []
    if 0 < len(dates) <= _MOST_DATES * len(names):
        found.append(
            f"Column {label} holds dates ({short_list(dates, 3)}) among its classes: spreadsheets turn classes such as"
            " 4-5 and 1/2 into dates; correct them."
        )
    written = [value for value in values if isinstance(value, str) and value.strip().lower() in _TRUTHS]
    if written and any(isinstance(value, bool) for value in values):
        found.append(
            f"Column {label} holds true and false both as values and as text ({written[0]!r}), which are different"
            " classes; write them in one way."
        )
    return found


def _is_blank(value: object) -> bool:
    return is_missing(value) or str(value).strip() == ""
