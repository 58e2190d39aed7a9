"""Draw the figures of an error analysis with plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.plots import BLUE, GREY, ORANGE, new_figure
from transformer_foundry.core.evaluation.error_analysis.segments import MIN_EXAMPLES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["calibration_figure", "confusion_figure", "segment_figure"]

_MAX_SEGMENTS = 24
_FULL_NAMES = 12
_SHARE_RANGE = (-0.03, 1.03)
_MAX_POINT_PX = 22
_HEIGHT_PX = 480
_NO_SEGMENTS = f"Too few examples: a segment needs {MIN_EXAMPLES}, and as many outside of it"


def confusion_figure(report: Mapping[str, Any]) -> Figure:
    """Draw the confusion matrix as shares of the true class, with the counts in the cells."""
    figure = _figure("Confusion", report)
    if "confusion" not in report:
        return _without(figure, f"{report['task']} has no classes to show")
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


def calibration_figure(report: Mapping[str, Any]) -> Figure:
    """Draw how often predictions of a confidence are right; a calibrated model is on the diagonal."""
    figure = _figure("Calibration", report)
    if "calibration" not in report:
        return _without(figure, f"{report['task']} has no examples to show")
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
        return _without(figure, _NO_SEGMENTS if report["examples"] else f"{report['task']} has no examples to show")
    entries = report["segments"][:_MAX_SEGMENTS][::-1]
    figure.add_bar(
        x=[entry["difference"] for entry in entries],
        y=[f"{entry['segment']}: {entry['value']} ({entry['examples']})" for entry in entries],
        error_x={"type": "data", "array": [2 * entry["standard_error"] for entry in entries]},
        marker={"color": [ORANGE if entry["is_weak"] else BLUE for entry in entries]},
        orientation="h",
    )
    figure.update_xaxes(title="loss above that of the other examples, nats (orange: weak)")
    figure.update_layout(height=200 + 24 * len(entries), margin={"l": 230})
    return figure


def _area(bins: Sequence[Mapping[str, Any]]) -> float:
    """Return plotly's ``sizeref``: the fullest bin gets the largest point."""
    return float(2 * max(entry["targets"] for entry in bins) / _MAX_POINT_PX**2)


def _figure(title: str, report: Mapping[str, Any]) -> Figure:
    margin = {"l": 80, "r": 30, "t": 70, "b": 60}
    return new_figure(f"{title} ({report['split']}, {report['examples']} examples)", height=_HEIGHT_PX, margin=margin)


def _without(figure: Figure, text: str) -> Figure:
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
