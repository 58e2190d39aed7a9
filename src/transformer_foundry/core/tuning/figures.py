"""Figures of a search, as plotly objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformer_foundry.core.tuning.loop import finished_trials, record_of

if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure

__all__ = ["history_figure"]

# The Okabe-Ito colours, as in the figures of a training run.
_COLOURS = {"complete": "#0072B2", "pruned": "#E69F00", "failed": "#D55E00"}
_GREY = "#888888"


def history_figure(study: Study) -> Figure:
    """Draw the loss of each trial in the order they were tried, with the best complete loss so far as a line."""
    import plotly.graph_objects as go

    records = [record for record in (record_of(trial, ()) for trial in finished_trials(study)) if record.loss]
    figure = go.Figure()
    for state, colour in _COLOURS.items():
        chosen = [record for record in records if record.state == state]
        figure.add_scatter(
            x=[record.number for record in chosen],
            y=[record.loss for record in chosen],
            text=["<br>".join(f"{name}: {value}" for name, value in record.parameters.items()) for record in chosen],
            mode="markers",
            name=state,
            marker={"color": colour, "size": 9},
            visible=True if chosen else "legendonly",
        )
    complete = [record for record in records if record.state == "complete"]
    losses = [record.loss for record in complete if record.loss is not None]
    figure.add_scatter(
        x=[record.number for record in complete],
        y=[min(losses[: count + 1]) for count in range(len(losses))],
        mode="lines",
        name="best so far",
        line={"color": _GREY, "shape": "hv"},
    )
    figure.update_layout(
        title="Search history",
        xaxis_title="trial",
        yaxis_title="validation loss (nats per target)",
        template="plotly_white",
        legend={"orientation": "h", "y": 1.1, "x": 1, "xanchor": "right"},
    )
    return figure
