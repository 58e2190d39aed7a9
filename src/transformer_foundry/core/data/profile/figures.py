"""Plotly figures of prepared data: lengths, tokens, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.base.plots import BLUE, GREEN, ORANGE, new_figure
from transformer_foundry.core.data.tokenized.dataset import TokenSplits

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["label_figure", "length_figure", "token_figure"]

_COLORS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
_BINS = 40
_COUNTED_TOKENS = 5_000_000
_POINTS = 200  # of the curve of frequencies


def length_figure(splits: TokenSplits) -> Figure:
    """Draw the lengths of the rows of each split; packed rows all have one length."""
    figure = new_figure("Length of the rows", "tokens", "share of the rows")
    edges = np.unique(np.linspace(0, splits.max_length + 1, _BINS + 1).astype(int))
    for name, split in splits.splits.items():
        if len(split):
            counts, _ = np.histogram(split.input_ids.lengths(), edges)
            figure.add_bar(x=edges[:-1], y=counts / counts.sum(), name=name, marker_color=_COLORS[name])
    return figure


def token_figure(splits: TokenSplits) -> Figure:
    """Draw the frequency of each token of the vocabulary against its rank in the training split, both on log scales."""
    figure = new_figure("Frequency of the tokens", "rank in the training split", "share of the tokens")
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
        figure.add_scatter(x=ranks[seen], y=shares[seen], name=name, line={"color": _COLORS[name]})
    return figure


def label_figure(profile: dict[str, Any]) -> Figure:
    """Draw the share of each class, or the numbers, in each split; nothing without either.

    Args:
        profile: The result of ``profile_splits``.
    """
    numbers = profile.get("numbers")
    if numbers:
        figure = new_figure("Numbers to predict", "number", "share of the texts")
        for name, described in numbers["splits"].items():
            counts = np.array(described["counts"])
            figure.add_bar(x=numbers["edges"][:-1], y=counts / counts.sum(), name=name, marker_color=_COLORS[name])
        return figure
    figure = new_figure("Balance of the classes", "class", "share of the labels")
    for name, counts in (profile["labels"] or {}).items():
        total = max(sum(counts.values()), 1)
        shares = [count / total for count in counts.values()]
        figure.add_bar(x=list(counts), y=shares, name=name, marker_color=_COLORS[name])
    return figure
