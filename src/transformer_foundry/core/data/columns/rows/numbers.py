"""Numbers and flags as they are written in cells, and what may be lost in reading them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.data.columns.cells import is_missing

__all__ = ["bare_number", "read_flag", "read_number", "warn_of_digits", "warn_of_thousands"]

Rows = Sequence[Mapping[str, Any]]

_MINUS = "\N{MINUS SIGN}"  # as word processors write it
_DECIMAL_COMMA, _THOUSANDS = re.compile(r"[-+]?\d+,\d+"), re.compile(r"[-+]?\d{1,3},\d{3}")
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")  # a number, or thousands with the point of German and Spanish
_WHOLE = re.compile(r"[-+]?\d{16,30}")  # whole numbers of 15 digits are exact
_BELOW_THOUSAND = re.compile(r"[-+]?\d{1,3}")
_FEW_NUMBERS = 5
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
_UNKNOWN = ("-1", "-1.0")  # in sets of which a part is not scored
_CURRENCY = r"(?:[$\u00a3\u20ac\u00a5\u20b9]|USD|EUR|GBP|CHF|JPY|INR|Rs\.?)"
_SPACE = r"[ \u00a0\u202f]"
_UNIT = r"(?:[%\u2030\u00b0]|/\s?\d+|out of \d+)"
_BARE = re.compile(
    rf"(?P<open>\()?{_CURRENCY}?{_SPACE}?(?P<number>[-+]?\d+(?:[.,'\u2019 \u00a0\u202f]\d+)*)"
    rf"(?:{_SPACE}?(?:{_UNIT}|{_CURRENCY}))?(?(open)\))"
)


def read_number(value: object) -> float | None:
    """Return the finite number of a cell, also with a decimal comma or the sign for minus; None if it could be another.

    Example:
        >>> read_number("3.8"), read_number("3,8"), read_number("1,000"), read_number("nan")
        (3.8, 3.8, None, None)
    """
    if isinstance(value, bool):
        return None
    text = str(value).replace(_MINUS, "-")
    if _DECIMAL_COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        text = text.replace(",", ".")
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_flag(value: object) -> int | None:
    """Return 1 or 0 for a cell that says whether a label applies, -1 if that is not known; None for other cells.

    Example:
        >>> read_flag("1"), read_flag(False), read_flag(""), read_flag(-1), read_flag("2")
        (1, 0, -1, -1, None)
    """
    text = "" if is_missing(value) else str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return int(text in _TRUE)
    return -1 if text == "" or text in _UNKNOWN else None


def bare_number(value: object) -> str | None:
    """Return the number in a cell that holds more than a number, such as a sign or marks between thousands, else None.

    Example:
        >>> bare_number("12%"), bare_number("$1,203.50"), bare_number("4/5"), bare_number("1'200"), bare_number("0,100")
        ('12', '1203.50', '4', '1200', '0.100')
    """
    found = _BARE.fullmatch(str(value).strip())
    if found is None or read_number(value) is not None:
        return None
    *groups, last = re.split(r"[^\d+-]", found.group("number"))
    mark = found.group("number")[-len(last) - 1] if groups else ""
    # 0,100 is a fraction, 1,100 a number of thousands.
    is_fraction = mark in (".", ",") and (len(last) != 3 or groups == ["0"] or (mark == "." and len(groups) > 1))
    sign = "-" if found.group("open") else ""
    return sign + "".join(groups) + ("." * is_fraction) + last


def warn_of_thousands(rows: Rows, label: str) -> tuple[str, ...]:
    """Return a sentence if all numbers that have a point have three digits after it, and none begins with 0."""
    written = [str(value) for row in rows if not isinstance(value := row.get(label), int) and not is_missing(value)]
    grouped = [text for text in written if _GROUPED.fullmatch(text)]
    others = [text for text in written if not _GROUPED.fullmatch(text)]
    if len(grouped) < _FEW_NUMBERS or not all(_BELOW_THOUSAND.fullmatch(text) for text in others):
        return ()
    number = read_number(grouped[0])
    return (
        f"The numbers in column {label} have three digits after the point, such as {grouped[0]}, which is read as"
        f" {number:g}: if the point separates thousands, remove it.",
    )


def warn_of_digits(rows: Rows, label: str) -> tuple[str, ...]:
    """Return a sentence if a whole number has more digits than a float keeps."""
    for row in rows:
        text = str(row.get(label)).strip()
        if _WHOLE.fullmatch(text) and int(float(text)) != int(text):
            return (
                f"Column {label} holds whole numbers above 2^53, such as {text}, which is read as {int(float(text))}:"
                " the last digits are lost; subtract what all have in common.",
            )
    return ()
