"""What is in prepared data as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.data.tokenized.dataset import TokenSplits

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["label_figure", "length_figure", "token_figure"]

# The Okabe-Ito colours: told apart by colour-blind readers, on light and dark ground.
_COLOURS = {"train": "#0072B2", "validation": "#E69F00", "test": "#009E73"}
_BINS = 40
_COUNTED_TOKENS = 5_000_000
_POINTS = 200  # of the curve of frequencies


def length_figure(splits: TokenSplits) -> Figure:
    """Draw how long the rows of each split are; packed rows have one length, so their documents are not seen here."""
    figure = _figure("Length of the rows", "tokens", "share of the rows")
    edges = np.unique(np.linspace(0, splits.max_length + 1, _BINS + 1).astype(int))
    for name, split in splits.splits.items():
        if len(split):
            counts, _ = np.histogram(split.input_ids.lengths(), edges)
            figure.add_bar(x=edges[:-1], y=counts / counts.sum(), name=name, marker_color=_COLOURS[name])
    return figure


def token_figure(splits: TokenSplits) -> Figure:
    """Draw the frequency of each token of the vocabulary against its rank in the training split, both on log scales."""
    figure = _figure("Frequency of the tokens", "rank in the training split", "share of the tokens")
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    order: np.ndarray | None = None
    for name, split in splits.splits.items():
        counts = np.bincount(split.input_ids.values[:_COUNTED_TOKENS], minlength=splits.vocab_size)
        if not counts.sum():
            continue
        order = np.argsort(-counts, kind="stable") if order is None else order
        ranks = np.unique(np.geomspace(1, len(order), _POINTS).astype(int))
        shares = counts[order[ranks - 1]] / counts.sum()
        seen = shares > 0
        figure.add_scatter(x=ranks[seen], y=shares[seen], name=name, line={"color": _COLOURS[name]})
    return figure


def label_figure(profile: dict[str, Any]) -> Figure:
    """Draw the share of each class in each split; without classes, what the baselines reach.

    Args:
        profile: What ``profile_splits`` returned.
    """
    if profile["labels"] is None:
        figure = _figure("Baselines", "", "nats per target token")
        figure.add_bar(x=list(profile["baselines"]), y=list(profile["baselines"].values()), marker_color="#888888")
        return figure
    figure = _figure("Balance of the classes", "class", "share of the labels")
    for name, counts in profile["labels"].items():
        total = max(sum(counts.values()), 1)
        shares = [count / total for count in counts.values()]
        figure.add_bar(x=list(counts), y=shares, name=name, marker_color=_COLOURS[name])
    return figure


def _figure(title: str, x_title: str, y_title: str) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title=title,
        xaxis_title=x_title,
        yaxis_title=y_title,
        template="plotly_white",
        legend={"orientation": "h", "y": 1.1, "x": 1, "xanchor": "right"},
        margin={"l": 60, "r": 30, "t": 70, "b": 50},
    )
    return figure
