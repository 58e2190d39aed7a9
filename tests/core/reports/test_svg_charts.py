"""Charts show every value where it belongs, and spikes however many points there are."""

from __future__ import annotations

import re

from transformer_foundry.core.reports.svg_charts import Interval, interval_chart, line_chart, thin


def points_of(chart: str) -> list[tuple[float, float]]:
    (written,) = re.findall(r'points="([^"]*)"', chart)
    return [tuple(map(float, pair.split(","))) for pair in written.split()]  # type: ignore[misc]


def test_a_line_keeps_the_proportions_of_its_values() -> None:
    (x0, y0), (x1, y1), (x2, y2) = points_of(line_chart("t", {"a": [(0, 1.0), (10, 3.0), (40, 2.0)]}, x_label="step"))
    assert round((x1 - x0) / (x2 - x0), 2) == 0.25
    assert y1 < y2 < y0  # the drawing's y grows downwards
    assert abs((y0 - y2) / (y0 - y1) - 0.5) < 0.01


def test_values_that_are_not_finite_are_left_out() -> None:
    chart = line_chart("t", {"a": [(0, 1.0), (1, float("nan")), (2, float("inf")), (3, 2.0)]}, x_label="step")
    assert len(points_of(chart)) == 2


def test_one_point_is_no_curve() -> None:
    assert line_chart("t", {"a": [(0, 1.0)]}, x_label="step") is None


def test_a_constant_is_drawn() -> None:
    assert len(points_of(line_chart("t", {"a": [(0, 2.0), (1, 2.0)]}, x_label="step"))) == 2


def test_a_spike_survives_thinning() -> None:
    points = [(float(step), 1.0) for step in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    kept = thin(points)
    assert len(kept) <= 800
    assert (54_321.0, 9.0) in kept
    assert kept[0][0] == 0
    assert kept[-1][0] == 99_999
    assert kept == sorted(kept)


def test_a_baseline_outside_the_curve_is_inside_the_drawing() -> None:
    chart = line_chart("t", {"a": [(0, 5.0), (1, 4.0)]}, x_label="step", marks={"bigram": 1.0})
    (level,) = re.findall(r'class="mark"[^>]*y1="([0-9.]+)"', chart)
    assert 0 < float(level) < 220
    assert "bigram 1" in chart


def test_an_interval_lies_around_its_value_and_one_that_failed_is_named_only() -> None:
    chart = interval_chart(
        "t", [Interval("gpt", 2.0, 0.5), Interval("llama", 3.0, 0.0, "bad"), Interval("none", float("nan"), 0.0)]
    )
    places = [float(x) for x in re.findall(r'cx="([0-9.]+)"', chart)]
    ends = re.findall(r'class="bar" x1="([0-9.]+)" x2="([0-9.]+)"', chart)
    low, high = map(float, ends[0])
    assert low < places[0] < high < places[1]
    assert abs((low + high) / 2 - places[0]) < 0.1
    assert (len(places), chart.count('class="point bad"'), "none</text>" in chart) == (2, 1, True)


def test_intervals_of_which_none_is_known_are_not_drawn() -> None:
    assert interval_chart("t", [Interval("gpt", float("nan"), 0.0)]) is None
