"""Intervals of a mean of a few trainings, and what may be said of a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["is_difference", "mean_interval"]

_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
         2.12, 2.11, 2.101, 2.093, 2.086)  # fmt: skip
_T_99 = (63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.25, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947,
         2.921, 2.898, 2.878, 2.861, 2.845)  # fmt: skip
"""Student's t, two-sided, for 1, 2 ... 20 degrees of freedom; more take the last, which is a little too wide."""


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float | None]:
    """Return the mean of ``values`` and half the width of its interval; None for a single value.

    Args:
        values: Independent measurements, such as losses of several seeds.
        confidence: 0.95 or 0.99.

    Example:
        >>> mean, half = mean_interval([1.0, 2.0, 3.0])
        >>> round(mean, 2), round(half, 2)
        (2.0, 2.48)
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, None
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    table = _T_99 if confidence == 0.99 else _T_95
    return mean, table[min(count - 2, len(table) - 1)] * deviation / math.sqrt(count)


def is_difference(differences: Sequence[float]) -> bool | None:
    """Return whether paired differences differ from zero with 99 % confidence; None if that cannot be known.

    99 and not 95: several models are compared at once, and one false alarm in twenty is too many.
    """
    if not all(map(math.isfinite, differences)):
        return None
    mean, half = mean_interval(differences, confidence=0.99)
    return None if half is None else abs(mean) > half
