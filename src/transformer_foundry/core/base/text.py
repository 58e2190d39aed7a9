"""Texts for users: durations, numbers and sizes, characters that a terminal would obey."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from transformer_foundry.core.base.secrets import redact

__all__ = [
    "counted",
    "format_age",
    "format_duration",
    "format_number",
    "format_size",
    "markdown_text",
    "one_line",
    "printable",
    "short_list",
    "short_sample",
    "spreadsheet_cell",
]

# What a terminal obeys, line separators, direction marks, invisible tags, halves of surrogate pairs.
_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u180e\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MARKDOWN = str.maketrans({"<": "&lt;", ">": "&gt;", "|": "\\|", "`": "'", "[": "\\[", "]": "\\]"})
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with in a spreadsheet, and the wide forms of it, which some take for the same."""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural if it is not one.

    Example:
        >>> counted(1, "format"), counted(0, "format"), counted(1402, "document")
        ('1 format', '0 formats', '1,402 documents')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_age(seconds: float) -> str:
    """Return how long ago something was, in its largest unit.

    Example:
        >>> format_age(12.3), format_age(150), format_age(7300), format_age(90000), format_age(-3)
        ('12 s ago', '2 min ago', '2 h ago', '1 day ago', '0 s ago')
    """
    # The clock of a file server may be ahead of ours.
    minutes = int(max(seconds, 0)) // 60
    if minutes < 1:
        return f"{int(max(seconds, 0))} s ago"
    if minutes < 60:
        return f"{minutes} min ago"
    hours = minutes // 60
    return f"{hours} h ago" if hours < 24 else f"{counted(hours // 24, 'day')} ago"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    Example:
        >>> format_duration(12.345), format_duration(75), format_duration(600), format_duration(4000)
        ('12.3 s', '1 min 15 s', '10 min', '1 h 7 min')
    """
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_number(value: object, digits: int = 4) -> str:
    """Return a number with ``digits`` significant digits and thousands separators; any other value as text.

    Example:
        >>> format_number(1234567), format_number(0.00012346), format_number(5.015269876), format_number(156305.0)
        ('1,234,567', '0.0001235', '5.015', '156,305')
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (math.isfinite(value) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.0f}" if 10.0**digits <= abs(value) < 1e15 else f"{value:.{digits}g}"


def format_change(share: float) -> str:
    """Return a relative change as a signed percentage; one that rounds to zero has a plus sign.

    Example:
        >>> format_change(0.00123), format_change(-0.00001)
        ('+0.12%', '+0.00%')
    """
    return f"{share:+z.2%}"


def format_size(size_bytes: object) -> str:
    """Return a size in the largest binary unit that fits; "-" for a value that is not a number.

    Example:
        >>> format_size(3505936), format_size(299)
        ('3.34 MiB', '299 B')
    """
    if isinstance(size_bytes, bool) or not isinstance(size_bytes, int | float):
        return "-"
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes >= 2**power:
            return f"{size_bytes / 2**power:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def markdown_text(text: str) -> str:
    """Return ``text`` on one line, as Markdown that shows it: without tags, links, code and cells of a table.

    Example:
        >>> markdown_text("<b>[a](b)|")
        '&lt;b&gt;\\\\[a\\\\](b)\\\\|'
    """
    return one_line(redact(text)).translate(_MARKDOWN)


def one_line(text: object, longest: int | None = None) -> str:
    """Return ``text`` on one line and printable: names, labels and cells from outside are shown like this everywhere.

    Args:
        text: The text.
        longest: Most characters; more are cut.

    Example:
        >>> one_line("a\\nb\\x1b[2J"), one_line("abcdef", 3)
        ('a\\\\nb\\\\x1b[2J', 'abc...')
    """
    shown = printable(str(text)).replace("\n", "\\n")
    return shown if longest is None or len(shown) <= longest else f"{shown[:longest]}..."


def printable(text: str) -> str:
    """Return ``text`` with control characters, direction marks and lone surrogates escaped: a terminal would obey them.

    Lines stay lines; ``one_line`` is for names and cells.

    Example:
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def spreadsheet_cell(value: object) -> object:
    """Return a cell of a CSV file: a text that a spreadsheet would run as a formula begins with an apostrophe.

    Example:
        >>> spreadsheet_cell("=1+1"), spreadsheet_cell(-1.5), spreadsheet_cell("-0.5")
        ("'=1+1", -1.5, '-0.5')
    """
    if not isinstance(value, str):
        return value
    shown = one_line(redact(value))
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) and not _is_number(shown) else shown


def short_sample(sample: str, longest: int = 160) -> str:
    """Return a sample of a model, ``INPUT >> OUTPUT``, short enough for a line of a terminal: the input's end is cut.

    Example:
        >>> short_sample("a very long text of a review >> good (true: bad)", 40)
        'a very lon... >> good (true: bad)'
    """
    given, arrow, written = sample.partition(" >> ")
    return f"{one_line(given, longest // 2 if not arrow else longest // 4)}{arrow}{one_line(written, longest)}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def short_list(names: Iterable[object], limit: int = 8) -> str:
    """Return names separated by commas, at most ``limit`` of them.

    Example:
        >>> short_list("abcde", limit=3)
        'a, b, c and 2 more'
    """
    texts = [str(name) for name in names]
    more = len(texts) - limit
    # "and 1 more" takes the place of the name itself.
    return ", ".join(texts) if more <= 1 else f"{', '.join(texts[:limit])} and {more} more"
