"""Draw the figures of an error analysis with plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.plots import BLUE, GREY, ORANGE, new_figure
from transformer_foundry.core.files.provenance import origin_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["calibration_figure", "confusion_figure", "segment_figure"]

_MAX_SEGMENTS = 24
_FULL_NAMES = 12
_SHARE_RANGE = (-0.03, 1.03)
_MAX_POINT_PX = 22
_HEIGHT_PX = 480


def confusion_figure(report: Mapping[str, Any]) -> Figure:
    """Draw the confusion matrix as shares of the true class, with the counts in the cells.

    For several labels a text, the F1 score of each; for numbers, predicted against true ones; else nothing.
    """
    if "labels" in report:
        return _draw_label_scores(report)
    if "numbers" in report:
        return _draw_numbers(report)
    figure = _figure("Confusion", report)
    if "confusion" not in report:
        return figure
    labels, matrix = report["confusion"]["labels"], report["confusion"]["matrix"]
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=shares,
        text=[[count or "" for count in row] for row in matrix],
        texttemplate="%{text}" if len(labels) <= _FULL_NAMES else "",
        colorscale="Blues",
        zmin=0,
        zmax=1,
        colorbar={"title": "share of<br>the true class"},
    )
    figure.update_xaxes(title="predicted", type="category")
    figure.update_yaxes(title="true", type="category", autorange="reversed")
    return figure


def _draw_label_scores(report: Mapping[str, Any]) -> Figure:
    figure = _figure("F1 of each label", report)
    entries = report["labels"]
    names = [f"{entry['label']} ({entry['examples']})" for entry in entries]
    for score, color in (("f1", BLUE), ("precision", ORANGE), ("recall", GREY)):
        figure.add_bar(x=names, y=[entry[score] for entry in entries], name=score, marker_color=color)
    figure.update_yaxes(range=_SHARE_RANGE)
    return figure


def _draw_numbers(report: Mapping[str, Any]) -> Figure:
    figure = _figure("Predicted and true numbers", report)
    points = report["numbers"]["points"]
    ends = [min(map(min, points)), max(map(max, points))]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": GREY}, showlegend=False)
    true, predicted = zip(*points, strict=True)
    figure.add_scatter(x=true, y=predicted, mode="markers", marker={"color": BLUE, "size": 6}, showlegend=False)
    figure.update_xaxes(title="true")
    figure.update_yaxes(title="predicted")
    return figure


def calibration_figure(report: Mapping[str, Any]) -> Figure:
    """Draw how often predictions of a confidence are right; on the diagonal for a calibrated model."""
    figure = _figure("Calibration", report)
    if "calibration" not in report:
        return figure
    bins, error = report["calibration"]["bins"], report["calibration"]["expected_error"]
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, showlegend=False)
    figure.add_scatter(
        x=[entry["confidence"] for entry in bins],
        y=[entry["accuracy"] for entry in bins],
        text=[f"{entry['targets']} predictions" for entry in bins],
        mode="lines+markers",
        line={"color": BLUE},
        marker={"size": [entry["targets"] for entry in bins], "sizemode": "area", "sizemin": 4, "sizeref": _area(bins)},
        showlegend=False,
    )
    figure.update_layout(title=f"Calibration ({report['split']}): expected error {error:.3f}")
    figure.update_xaxes(title="confidence (larger points: more predictions)", range=_SHARE_RANGE)
    figure.update_yaxes(title="share that is right", range=_SHARE_RANGE)
    return figure


def segment_figure(report: Mapping[str, Any]) -> Figure:
    """Draw the loss of each segment above that of the other examples, with two standard errors; weak ones in orange."""
    figure = _figure("Segments", report)
    if not report.get("segments"):
        return figure
    entries = report["segments"][:_MAX_SEGMENTS][::-1]
    figure.add_bar(
        x=[entry["difference"] for entry in entries],
        y=[f"{entry['segment']}: {entry['value']} ({entry['examples']})" for entry in entries],
        error_x={"type": "data", "array": [2 * entry["standard_error"] for entry in entries]},
        marker={"color": [ORANGE if entry["is_weak"] else BLUE for entry in entries]},
        orientation="h",
    )
    figure.update_xaxes(title="loss above that of the other examples (orange: weak)")
    figure.update_layout(height=200 + 24 * len(entries), margin={"l": 230})
    return figure


def _area(bins: Sequence[Mapping[str, Any]]) -> float:
    """Return plotly's ``sizeref``: the fullest bin gets the largest point."""
    return float(2 * max(entry["targets"] for entry in bins) / _MAX_POINT_PX**2)


def _figure(title: str, report: Mapping[str, Any]) -> Figure:
    margin, step = {"l": 80, "r": 30, "t": 70, "b": 60}, origin_of(report).get("step")
    of_step = "" if step is None else f", step {step}"
    title = f"{title} ({report['split']}, {report['examples']} examples{of_step})"
    return new_figure(title, height=_HEIGHT_PX, margin=margin)
