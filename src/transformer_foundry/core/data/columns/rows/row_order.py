"""The order that a column of times or numbers gives: whether it rises or falls from row to row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from transformer_foundry.core.data.columns.cells import text_of
from transformer_foundry.core.data.columns.roles import words_of

__all__ = ["falling", "is_named_as_time", "place_of"]

_TIMES = frozenset(("time", "timestamp", "ts", "date", "datetime", "created", "sent", "posted", "at"))
_NO_TIMES = frozenset(
    ("edited", "updated", "modified", "deleted", "read", "start", "end", "started", "ended", "joined")
)
_DATES = ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y, %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M")


def is_named_as_time(name: str) -> bool:
    """Return whether a name is that of the time at which something was said.

    Example:
        >>> is_named_as_time("created_at"), is_named_as_time("timestamp_ms"), is_named_as_time("updated_at")
        (True, True, False)
    """
    words = words_of(name)
    return bool(_TIMES.intersection(words)) and not _NO_TIMES.intersection(words)


def falling(steps: Iterable[tuple[object, object]]) -> list[bool]:
    """Return of pairs of neighbours whether the second comes before the first; equal ones and texts are left out.

    Example:
        >>> falling([(1, 2), ("2024-01-02T10:00", "2024-01-01T10:00"), (3, 3), ("a", "b")])
        [False, True]
    """
    places = [(place_of(one), place_of(other)) for one, other in steps]
    return [one > other for one, other in places if one is not None and other is not None and one != other]


def place_of(value: object) -> float | None:
    """Return a number, or a time as a number that grows; None if a cell holds neither.

    Example:
        >>> place_of("7"), place_of("1970-01-01T00:01Z"), place_of("soon")
        (7.0, 60.0, None)
    """
    text = text_of(value).strip()
    try:
        return float(text)
    except ValueError:
        found = _time_of(text)
    if found is None:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _time_of(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _DATES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
