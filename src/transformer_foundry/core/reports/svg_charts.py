"""Charts as inline SVG: small, sharp on every screen, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from transformer_foundry.core.reports.html import Markup, tag

__all__ = ["Interval", "Points", "interval_chart", "line_chart"]

Points = Sequence[tuple[float, float]]
"""(x, y) pairs, x ascending."""

Interval = tuple[str, float, float, str]
"""Name, value, half the width of its interval, and the colour: good, bad or none."""

# In units of the drawing, which is scaled to the width of the page: on a phone of 390 px one unit is about 0.9 px.
_WIDTH, _HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34
_TICKS = 4
_ROW, _SIDE, _END = 34, 14, 4
_MOST_POINTS = 400
"""More cannot be told apart on a screen; each is some ten bytes of the file."""


def line_chart(
    title: str, series: Mapping[str, Points], *, x_label: str, marks: Mapping[str, float] | None = None
) -> Markup | None:
    """Draw ``series`` against x, with a dotted level line for each of ``marks``, and a legend below.

    Args:
        title: What is drawn, with its unit.
        series: Name -> points; those that are not finite are left out.
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
    parts = [*_axes(frame, x_label), *(_level(frame, value) for value in levels.values())]
    parts += [_curve(frame, points, index) for index, points in enumerate(drawn.values())]
    # No name is drawn on the curve: two that end close together would lie on each other.
    keys = [tag("li", tag("span", class_=f"key s{index}"), name) for index, name in enumerate(drawn)]
    keys += [tag("li", tag("span", class_="key mark"), f"{name} {value:.4g}") for name, value in levels.items()]
    if len(keys) == 1:  # the title says it
        keys = []
    drawing = tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=title)
    return tag("figure", tag("figcaption", title), drawing, tag("ul", *keys, class_="legend") if keys else None)


def interval_chart(title: str, intervals: Sequence[Interval]) -> Markup | None:
    """Draw values below each other with their intervals, each under its name.

    Args:
        title: What is drawn, with its unit.
        intervals: Those that are not finite are named only.

    Returns:
        A figure; None if there is nothing to draw.
    """
    known = [(value - half, value + half) for _, value, half, _ in intervals if math.isfinite(value + half)]
    if not known:
        return None
    frame = _Frame(*_padded(min(low for low, _ in known), max(high for _, high in known)), 0, 1, left=_SIDE)
    bottom = _TOP + _ROW * len(intervals)
    parts = []
    for value in _ticks(frame.x_low, frame.x_high):
        x = frame.x(value)
        parts.append(tag("line", class_="grid", x1=x, x2=x, y1=_TOP, y2=bottom))
        parts.append(tag("text", f"{value:.6g}", x=x, y=bottom + 14, text_anchor="middle"))
    for row, interval in enumerate(intervals):
        parts += _interval(frame, interval, _TOP + _ROW * row)
    drawing = tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {bottom + 20}", role="img", aria_label=title)
    return tag("figure", tag("figcaption", title), drawing)


def _interval(frame: _Frame, interval: Interval, top: int) -> list[Markup]:
    name, value, half, colour = interval
    parts = [tag("text", name, class_="name", x=_SIDE, y=top + 12)]
    if not math.isfinite(value + half):
        return parts
    y, low, high = top + 23, frame.x(value - half), frame.x(value + half)
    parts.append(tag("line", class_="bar", x1=low, x2=high, y1=y, y2=y))
    parts += [tag("line", class_="bar", x1=x, x2=x, y1=y - _END, y2=y + _END) for x in (low, high)]
    return [*parts, tag("circle", class_=f"point {colour}".strip(), cx=frame.x(value), cy=y, r=4.5)]


def thin(points: Points) -> Points:
    """Return at most twice ``_MOST_POINTS`` of ``points``: of each stretch the lowest and the highest, so spikes stay.

    Example:
        >>> thin([(0, 1.0), (1, 2.0)])
        [(0, 1.0), (1, 2.0)]
    """
    if len(points) <= 2 * _MOST_POINTS:
        return points
    kept: set[tuple[float, float]] = {points[0], points[-1]}
    bounds = [round(index * len(points) / (_MOST_POINTS - 1)) for index in range(_MOST_POINTS)]
    for start, stop in pairwise(bounds):
        stretch = points[start:stop]
        kept |= {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
    return sorted(kept)


class _Frame:
    """Turns values into places of the drawing."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float, left: int = _LEFT) -> None:
        self.x_low, self.x_high, self.y_low, self.y_high = x_low, x_high, y_low, y_high
        self._left = left

    def x(self, value: float) -> float:
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)
        return round(self._left + share * (_WIDTH - self._left - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(frame: _Frame, x_label: str) -> list[Markup]:
    parts = []
    for value in _ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        parts.append(tag("text", _short(value), x=_LEFT - 5, y=y + 3.5, text_anchor="end"))
    for value in _ticks(frame.x_low, frame.x_high):
        parts.append(tag("text", _short(value), x=frame.x(value), y=_HEIGHT - _BOTTOM + 14, text_anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*parts, tag("text", x_label, x=middle, y=_HEIGHT - 4, text_anchor="middle")]


def _curve(frame: _Frame, points: Points, index: int) -> Markup:
    if len(points) == 1:
        return tag("circle", class_=f"dot s{index}", cx=frame.x(points[0][0]), cy=frame.y(points[0][1]), r=3)
    places = " ".join(f"{frame.x(x):g},{frame.y(y):g}" for x, y in points)
    return tag("polyline", class_=f"curve s{index}", points=places)


def _level(frame: _Frame, value: float) -> Markup:
    y = frame.y(value)
    return tag("line", class_="mark", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    # Nothing below zero is shown where nothing is below zero.
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
