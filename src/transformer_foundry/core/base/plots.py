"""Colors of all figures, and the common layout of plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["BLUE", "GREEN", "GREY", "LIGHT_BLUE", "ORANGE", "RED", "new_figure"]

# The Okabe-Ito palette, which color-blind readers can distinguish, on light and dark ground.
BLUE, LIGHT_BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#888888"


def new_figure(title: str, x_title: str = "", y_title: str = "", **layout: Any) -> Figure:
    """Return an empty plotly figure; ``layout`` are further properties of its layout."""
    import plotly.graph_objects as go

    figure = go.Figure()
    common = {
        "template": "plotly_white",
        "legend": {"orientation": "h", "y": 1.1, "x": 1, "xanchor": "right"},
        "margin": {"l": 60, "r": 30, "t": 70, "b": 50},
    }
    figure.update_layout(title=title, xaxis_title=x_title, yaxis_title=y_title, **{**common, **layout})
    return figure
