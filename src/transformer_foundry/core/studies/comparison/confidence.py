"""Confidence intervals for the mean of a few trainings, and tests of a difference (Student's t)."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["CONFIDENCE", "is_difference", "mean_interval", "student_t"]

CONFIDENCE = 0.99
"""Confidence of a verdict. Not 95 %: several models are compared at once, and one false alarm in twenty is too many."""


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float | None]:
    """Return the mean of ``values`` and half the width of its interval (Student's t); None for a single value.

    Args:
        values: Independent measurements, such as losses of several seeds.
        confidence: Between 0 and 1.

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
    return mean, student_t(count - 1, confidence) * deviation / math.sqrt(count)


def is_difference(differences: Sequence[float]) -> bool | None:
    """Return whether paired differences differ from zero with ``CONFIDENCE``; None if that is unknown."""
    if not all(map(math.isfinite, differences)):
        return None
    mean, half = mean_interval(differences, confidence=CONFIDENCE)
    return None if half is None else abs(mean) > half


def student_t(degrees: int, confidence: float) -> float:
    """Return the t that Student's distribution exceeds, on either side, with probability 1 - ``confidence``.

    Args:
        degrees: Degrees of freedom, 1 or more.
        confidence: Between 0 and 1.

    Example:
        >>> round(student_t(4, 0.99), 3)
        4.604
    """
    if degrees < 1 or not 0 < confidence < 1:
        raise ValueError(f"degrees are {degrees}, confidence {confidence}: expected 1 or more, and between 0 and 1")
    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _share_within(middle, degrees) < confidence else (low, middle)
    return math.tan(high) * math.sqrt(degrees)


def _share_within(angle: float, degrees: int) -> float:
    """Return the probability of -t to t, where t = tan(angle) sqrt(degrees) (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for index in range(degrees // 2):
        total += term
        term *= cosine**2 * (2 * index + 1 + odd) / (2 * index + 2 + odd)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
