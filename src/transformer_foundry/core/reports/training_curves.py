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
            target, or in variances of the training numbers.
        baselines: Name -> loss in the same unit, for example of a bigram model, or ``mean_loss`` of a regression.
    """
    unit = "variances of the training numbers" if "mean_loss" in (baselines or {}) else "nats per target"
    figure = new_figure(_title("Loss", history), "step", unit, hovermode="x unified")
    _add_line(figure, history, "train/loss", "training", BLUE)
    _add_line(figure, history, "eval/loss", "validation", ORANGE, markers=True)
    for name, value in (baselines or {}).items():
        figure.add_hline(y=value, line={"dash": "dot", "color": GREY}, annotation_text=f"{name} {value:.2f}")
    return figure


def learning_rate_figure(history: Sequence[Row]) -> Figure:
    """Draw the learning rate against the step; ``history`` as in :func:`loss_figure`."""
    figure = new_figure(_title("Learning rate", history), "step", "learning rate", hovermode="x unified")
    _add_line(figure, history, "train/learning_rate", "learning rate", GREEN)
    return figure


def gradient_norm_figure(history: Sequence[Row]) -> Figure:
    """Draw the norm of the gradient before clipping against the step; ``history`` as in :func:`loss_figure`."""
    figure = new_figure(_title("Gradient norm", history), "step", "norm before clipping", hovermode="x unified")
    _add_line(figure, history, "train/grad_norm", "gradient norm", BLUE)
    return figure


def _title(what: str, history: Sequence[Row]) -> str:
    """Return a title that says up to where the figure goes: it may be kept longer than its run stands still."""
    return f"{what}, up to step {history[-1]['step']}" if history else what


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
