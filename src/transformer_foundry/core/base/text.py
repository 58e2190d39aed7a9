"""Texts for users: durations, numbers and sizes, characters that a terminal would obey."""

from __future__ import annotations

import math
import re

__all__ = ["format_duration", "format_number", "format_size", "printable"]

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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


def printable(text: str) -> str:
    """Return ``text`` with control characters and lone surrogates escaped: a terminal would obey them.

    Example:
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
