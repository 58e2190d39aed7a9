"""Find segments of the examples on which a model is worse than on the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["find_segments"]

MIN_EXAMPLES = 10
MIN_STANDARD_ERRORS = 3.0
"""A segment is weak if its loss is this many standard errors above that of the other examples.

Of about twenty segments, at three standard errors, one is weak by chance in one analysis of forty.
"""

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def find_segments(
    losses: np.ndarray,
    accuracies: np.ndarray | None,
    numbers: Mapping[str, np.ndarray],
    names: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """Compare each segment with the examples outside of it.

    Args:
        losses: (N,) loss of each example per target.
        accuracies: (N,) share of the targets of each example that were predicted; None for numbers.
        numbers: Name -> (N,) a number of each example; the segments are its quarters.
        names: Name -> (N,) a name of each example, such as its class.

    Returns:
        For each segment with enough examples, the worst first: ``segment``, ``value``, ``examples``, ``loss``,
        ``accuracy``, ``difference`` (loss above the others), ``standard_error`` and ``is_weak``.
    """
    found = []
    for segment, value, inside in _segments(numbers, names):
        if min(inside.sum(), (~inside).sum()) < MIN_EXAMPLES:
            continue
        difference = losses[inside].mean() - losses[~inside].mean()
        error = math.sqrt(sum(losses[part].var(ddof=1) / part.sum() for part in (inside, ~inside)))
        found.append(
            {
                "segment": segment,
                "value": value,
                "examples": int(inside.sum()),
                "loss": float(losses[inside].mean()),
                "accuracy": None if accuracies is None else float(accuracies[inside].mean()),
                "difference": float(difference),
                "standard_error": error,
                "is_weak": bool(difference > MIN_STANDARD_ERRORS * error),
            }
        )
    return sorted(found, key=lambda entry: -entry["difference"])


def _segments(
    numbers: Mapping[str, np.ndarray], names: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, np.ndarray]]:
    for segment, values in numbers.items():
        edges: list[float] = np.unique(np.quantile(values, _QUARTERS)).tolist() if len(values) else []
        for low, high in itertools.pairwise(edges):
            is_last = high == edges[-1]
            inside = (values >= low) & ((values <= high) if is_last else (values < high))
            yield segment, f"{low:.4g} to {high:.4g}", inside
    for segment, values in names.items():
        for value in np.unique(values):
            yield segment, str(value), values == value
