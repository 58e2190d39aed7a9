"""Texts for users: durations in words, characters that a terminal would obey."""

from __future__ import annotations

import re

__all__ = ["format_duration", "printable"]

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


def printable(text: str) -> str:
    """Return ``text`` with control characters and lone surrogates escaped: a terminal would obey them.

    Example:
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
