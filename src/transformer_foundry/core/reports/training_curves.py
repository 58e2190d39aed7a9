"""Draw the curves of a training run with plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from transformer_foundry.core.base.plots import BLUE, GREEN, GREY, ORANGE, new_figure
from transformer_foundry.core.reports.run_record import Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["gradient_norm_figure", "learning_rate_figure", "loss_figure"]


def loss_figure(history: Sequence[Row], baselines: Mapping[str, float] | None = None) -> Figure:
    """Draw training and validation loss against the step, with the data's own baselines as lines.

    Args:
        history: Rows of ``metrics.jsonl``: ``step`` and metrics such as ``train/loss`` and ``eval/loss``, in nats per
            target token.
        baselines: Name -> loss in nats per target token, for example of a bigram model.
    """
    figure = new_figure("Loss", "step", "nats per target", hovermode="x unified")
    _add_line(figure, history, "train/loss", "training", BLUE)
    _add_line(figure, history, "eval/loss", "validation", ORANGE, markers=True)
    for name, value in (baselines or {}).items():
        figure.add_hline(y=value, line={"dash": "dot", "color": GREY}, annotation_text=f"{name} {value:.2f}")
    return figure


def learning_rate_figure(history: Sequence[Row]) -> Figure:
    """Draw the learning rate against the step; ``history`` as in :func:`loss_figure`."""
    figure = new_figure("Learning rate", "step", "learning rate", hovermode="x unified")
    _add_line(figure, history, "train/learning_rate", "learning rate", GREEN)
    return figure


def gradient_norm_figure(history: Sequence[Row]) -> Figure:
    """Draw the norm of the gradient before clipping against the step; ``history`` as in :func:`loss_figure`."""
    figure = new_figure("Gradient norm", "step", "norm before clipping", hovermode="x unified")
    _add_line(figure, history, "train/grad_norm", "gradient norm", BLUE)
    return figure


def _add_line(
    figure: Figure, history: Sequence[Row], metric: str, name: str, color: str, *, markers: bool = False
) -> None:
    rows = [row for row in history if metric in row]
    figure.add_scatter(
        x=[row["step"] for row in rows],
        y=[row[metric] for row in rows],
        name=name,
        mode="lines+markers" if markers else "lines",
        line={"color": color},
    )
