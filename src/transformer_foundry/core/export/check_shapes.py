"""Batch sizes and lengths that exported files are verified at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


__all__ = ["check_shapes"]


def check_shapes(longest: int) -> list[tuple[int, int]]:
    """Return the (batch, length) pairs at which files are verified.

    Example:
        >>> check_shapes(64)
        [(1, 1), (4, 1), (6, 2), (5, 22), (2, 33), (1, 64)]
    """
    pairs = [(1, 1), (4, 1), (6, 2), (5, longest // 3 + 1), (2, longest // 2 + 1), (1, longest)]
    return list(dict.fromkeys((batch, min(length, longest)) for batch, length in pairs))
