"""The pieces that sections are made of: tables, lists, chips, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformer_foundry.core.reports.html import Markup, tag

__all__ = ["chip", "details", "facts", "findings_list", "mapping", "number", "section", "sequence", "size", "table"]

_SEVERITIES = ("error", "warning", "info")
_LONGEST_TEXT = 4000
"""Characters of one text; a report is for reading."""


def section(name: str, title: str, *content: Markup | None) -> Markup | None:
    """Return a section, or None if there is nothing in it."""
    shown = [part for part in content if part]
    return tag("section", tag("h2", title), *shown, id=name) if shown else None


def details(summary: str, *content: Markup | None) -> Markup | None:
    """Return what opens at a click, or None if there is nothing in it."""
    shown = [part for part in content if part]
    return tag("details", tag("summary", summary), *shown) if shown else None


def facts(values: Mapping[str, object]) -> Markup | None:
    """Return names beside values; those that are None or empty are left out."""
    pairs = [(name, value) for name, value in values.items() if value not in (None, "")]
    rows = [tag("div", tag("dt", name), tag("dd", _cut(value))) for name, value in pairs]
    return tag("dl", *rows) if rows else None


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup | None:
    """Return a table whose first column names the row; wide ones scroll within their frame."""
    body = [
        tag("tr", tag("th", cells[0], scope="row"), *(tag("td", _cut(cell)) for cell in cells[1:])) for cells in rows
    ]
    if not body:
        return None
    titles = tag("tr", *(tag("th", title, scope="col") for title in head))
    return tag("div", tag("table", tag("thead", titles), tag("tbody", *body)), class_="scroll", tabindex="0")


def chip(label: str, kind: str) -> Markup:
    """Return a small coloured label; ``kind`` is one of good, bad, warn, calm."""
    return tag("span", label, class_=f"chip {kind}")


def findings_list(findings: Sequence[Any]) -> Markup | None:
    """Return findings of the checks or of the data, the gravest first, each with its place and cure."""
    known = sorted(
        (item for item in map(mapping, findings) if item.get("severity") in _SEVERITIES),
        key=lambda item: _SEVERITIES.index(item["severity"]),
    )
    kinds = {"error": "bad", "warning": "warn", "info": "calm"}
    rows = [
        tag(
            "li",
            chip(item["severity"], kinds[item["severity"]]),
            " ",
            _cut(item.get("message", "")),
            tag("code", item["where"]) if item.get("where") else None,
            tag("p", _cut(item["fix"]), class_="cure") if item.get("fix") else None,
        )
        for item in known
    ]
    return tag("ul", *rows, class_="findings") if rows else None


def number(value: object, digits: int = 4) -> str:
    """Return a number with ``digits`` significant digits and thousands apart; any other value as text.

    Example:
        >>> number(1234567), number(0.00012345), number(5.015269876), number(156305.0)
        ('1,234,567', '0.0001235', '5.015', '156,305')
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (math.isfinite(value) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.0f}" if 10.0**digits <= abs(value) < 1e15 else f"{value:.{digits}g}"


def size(count: object) -> str:
    """Return bytes in the unit that suits them.

    Example:
        >>> size(3505936), size(299)
        ('3.34 MiB', '299 B')
    """
    if isinstance(count, bool) or not isinstance(count, int | float):
        return number(None)
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 2**power:
            return f"{count / 2**power:.3g} {unit}"
    return f"{count:.0f} B"


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else an empty one: the files may have been changed by hand."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """Return ``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list | tuple) else ()


def _cut(value: object) -> object:
    if isinstance(value, Markup):
        return value
    if isinstance(value, int | float):
        return number(value)
    written = str(value)
    return written if len(written) <= _LONGEST_TEXT else f"{written[:_LONGEST_TEXT]} …"
