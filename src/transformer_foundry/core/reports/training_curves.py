"""The curves of a training run as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["gradient_norm_figure", "learning_rate_figure", "loss_figure"]

# The Okabe-Ito colours: told apart by colour-blind readers, on light and dark ground.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#888888"

Row = Mapping[str, Any]


def loss_figure(history: Sequence[Row], baselines: Mapping[str, float] | None = None) -> Figure:
    """Draw training and validation loss against the step, with the data's own baselines as lines.

    Args:
        history: Rows of ``metrics.jsonl``: ``step`` and metrics such as ``train/loss`` and ``eval/loss``, in nats per
            target token.
        baselines: Name -> loss in nats per target token, for example of a bigram model.
    """
    figure = _figure("Loss", "nats per target")
    _add_line(figure, history, "train/loss", "training", _BLUE)
    _add_line(figure, history, "eval/loss", "validation", _ORANGE, markers=True)
    for name, value in (baselines or {}).items():
        figure.add_hline(y=value, line={"dash": "dot", "color": _GREY}, annotation_text=f"{name} {value:.2f}")
    return figure


def learning_rate_figure(history: Sequence[Row]) -> Figure:
    """Draw the learning rate against the step; ``history`` as in :func:`loss_figure`."""
    figure = _figure("Learning rate", "learning rate")
    _add_line(figure, history, "train/learning_rate", "learning rate", _GREEN)
    return figure


def gradient_norm_figure(history: Sequence[Row]) -> Figure:
    """Draw the norm of the gradient before clipping against the step; ``history`` as in :func:`loss_figure`."""
    figure = _figure("Gradient norm", "norm before clipping")
    _add_line(figure, history, "train/grad_norm", "gradient norm", _BLUE)
    return figure


def _figure(title: str, unit: str) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title=title,
        xaxis_title="step",
        yaxis_title=unit,
        template="plotly_white",
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.1, "x": 1, "xanchor": "right"},
        margin={"l": 60, "r": 30, "t": 70, "b": 50},
    )
    return figure


def _add_line(
    figure: Figure, history: Sequence[Row], metric: str, name: str, colour: str, *, markers: bool = False
) -> None:
    rows = [row for row in history if metric in row]
    figure.add_scatter(
        x=[row["step"] for row in rows],
        y=[row[metric] for row in rows],
        name=name,
        mode="lines+markers" if markers else "lines",
        line={"color": colour},
    )
