"""Charts as inline SVG: small, sharp on every screen, colored by the page's style sheet.

This module computes the geometry; the templates ``line_chart.html`` and ``interval_chart.html`` draw it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from transformer_foundry.core.reports.rendering import render

__all__ = ["Interval", "Points", "interval_chart", "line_chart"]

Points = Sequence[tuple[float, float]]
"""(x, y) pairs, x ascending."""

# In units of the drawing, which is scaled to the width of the page: on a phone of 390 px one unit is about 0.9 px.
_WIDTH, _HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34
_TICKS = 4
_ROW, _SIDE, _CAP = 34, 14, 4
_MAX_POINTS = 400
"""A screen cannot show more; each takes about ten bytes of the file."""


class Interval(NamedTuple):
    """A value with its interval.

    Attributes:
        name: What was measured.
        value: The value; not finite if unknown.
        half_width: Half the width of its interval.
        color: "good", "bad" or "".
    """

    name: str
    value: float
    half_width: float
    color: str = ""


def line_chart(
    title: str, series: Mapping[str, Points], *, x_label: str, marks: Mapping[str, float] | None = None
) -> Markup | None:
    """Draw ``series`` against x, with a dotted level line for each of ``marks``, and a legend below.

    Args:
        title: What is drawn, with its unit.
        series: Name -> points; points that are not finite are left out.
        x_label: What x is.
        marks: Name -> level, for example the loss of a baseline.

    Returns:
        A figure; None if no series has two points.
    """
    drawn = {name: thin(_finite(points)) for name, points in series.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not any(len(points) > 1 for points in drawn.values()):
        return None
    levels = {name: value for name, value in (marks or {}).items() if math.isfinite(value)}
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points] + list(levels.values())
    frame = _Frame(min(xs), max(xs), *_padded(min(ys), max(ys)))
    return render(
        "line_chart.html",
        title=title,
        x_label=x_label,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        bottom=_HEIGHT - _BOTTOM,
        x_ticks=[(frame.x(value), _short(value)) for value in _ticks(frame.x_low, frame.x_high)],
        y_ticks=[(frame.y(value), _short(value)) for value in _ticks(frame.y_low, frame.y_high)],
        curves=[(name, [(frame.x(x), frame.y(y)) for x, y in points]) for name, points in drawn.items()],
        marks=[(f"{name} {value:.4g}", frame.y(value)) for name, value in levels.items()],
    )


def interval_chart(title: str, intervals: Sequence[Interval]) -> Markup | None:
    """Draw values below each other with their intervals, each under its name.

    Args:
        title: What is drawn, with its unit.
        intervals: The values; those that are not finite get only their name.

    Returns:
        A figure; None if there is nothing to draw.
    """
    known = [(value - half, value + half) for _, value, half, _ in intervals if math.isfinite(value + half)]
    if not known:
        return None
    frame = _Frame(*_padded(min(low for low, _ in known), max(high for _, high in known)), 0, 1, left=_SIDE)
    return render(
        "interval_chart.html",
        title=title,
        width=_WIDTH,
        left=_SIDE,
        top=_TOP,
        bottom=_TOP + _ROW * len(intervals),
        cap=_CAP,
        x_ticks=[(frame.x(value), f"{value:.6g}") for value in _ticks(frame.x_low, frame.x_high)],
        rows=[_interval_row(frame, interval, _TOP + _ROW * row) for row, interval in enumerate(intervals)],
    )


def _interval_row(frame: _Frame, interval: Interval, top: int) -> dict[str, object]:
    name, value, half, color = interval
    row: dict[str, object] = {"name": name, "top": top, "is_known": math.isfinite(value + half)}
    if row["is_known"]:
        places = {"low": value - half, "center": value, "high": value + half}
        row |= {"color": color, **{place: frame.x(x) for place, x in places.items()}}
    return row


def thin(points: Points) -> Points:
    """Return at most twice ``_MAX_POINTS`` of ``points``: the lowest and highest of each stretch, to keep spikes.

    Example:
        >>> thin([(0, 1.0), (1, 2.0)])
        [(0, 1.0), (1, 2.0)]
    """
    if len(points) <= 2 * _MAX_POINTS:
        return points
    kept: set[tuple[float, float]] = {points[0], points[-1]}
    bounds = [round(index * len(points) / (_MAX_POINTS - 1)) for index in range(_MAX_POINTS)]
    for start, stop in pairwise(bounds):
        stretch = points[start:stop]
        kept |= {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
    return sorted(kept)


class _Frame:
    """Converts values to coordinates of the drawing."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float, left: int = _LEFT) -> None:
        self.x_low, self.x_high, self.y_low, self.y_high = x_low, x_high, y_low, y_high
        self._left = left

    def x(self, value: float) -> float:
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return round(self._left + share * (_WIDTH - self._left - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    # The axis starts at zero or above if no value is negative.
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between ``low`` and ``high``: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
