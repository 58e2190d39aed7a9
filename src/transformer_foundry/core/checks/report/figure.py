"""Figure of a report: dependence map, gradient by layer, loss at initialization, attention entropy."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeVar

from transformer_foundry.core.base.plots import BLUE, GREEN, GREY, RED
from transformer_foundry.core.checks.probing.measurements import Measurements
from transformer_foundry.core.checks.report.report import Report
from transformer_foundry.core.files.provenance import MADE_FROM, Origin, digest_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_report"]

Row = TypeVar("Row")

LONGEST_NAME = 24
MOST_BARS = 24


def draw_report(report: Report | Measurements, made_from: Origin | None = None) -> Figure:
    """Draw the measurements in four panels, and a fifth with the drawn graph if the configuration has one.

    Args:
        report: A report of ``run_checks`` or ``check_model``, or its measurements.
        made_from: What the report is made from; its digest goes into the picture, as text beside the pixels.
    """
    # Without pyplot: no window system is needed, and no global state is kept.
    from matplotlib.figure import Figure

    measured = report.measurements if isinstance(report, Report) else report
    has_graph = bool(measured.graph)
    figure = Figure(figsize=(15 if has_graph else 11, 8.5), layout="constrained")
    grid = figure.add_gridspec(2, 3 if has_graph else 2, width_ratios=(1, 1, 0.75) if has_graph else (1, 1))
    _draw_dependence(figure.add_subplot(grid[0, 0]), measured)
    _draw_gradients(figure.add_subplot(grid[0, 1]), measured)
    _draw_loss(figure.add_subplot(grid[1, 0]), measured)
    _draw_entropy(figure.add_subplot(grid[1, 1]), measured)
    if has_graph:
        from transformer_foundry.core.checks.report.graph_figure import draw_graph

        draw_graph(measured.graph, measured.marked, axes=figure.add_subplot(grid[:, 2]))
    if isinstance(report, Report):
        figure.suptitle(_title(report), fontsize=13)
    if made_from is not None:
        metadata = {MADE_FROM: digest_of(dict(made_from))}
        figure.savefig = functools.partial(figure.savefig, metadata=metadata)  # type: ignore[method-assign]
    return figure


def _title(report: Report) -> str:
    problems = len(report.problems)
    verdict = "no problem found" if not problems else f"{problems} problem{'s' if problems > 1 else ''} found"
    first = f": {report.problems[0].check}" if problems else ""
    return f"Validation, {report.kind or 'kind unknown'}: {verdict}{first}"


def _draw_dependence(axes: Axes, measured: Measurements) -> None:
    axes.set_title(
        "Which position sees which token" + (" (above the diagonal: the future)" if measured.is_causal else "")
    )
    if measured.dependence is None:
        _show_not_measured(axes)
        return
    changes = measured.dependence.tolist()
    largest = max(max(row) for row in changes) or 1.0
    shares = [[value / largest for value in row] for row in changes]
    image = axes.imshow(
        [[math.log10(max(value, 1e-6)) for value in row] for row in shares], cmap="Blues", vmin=-6, vmax=0
    )
    axes.figure.colorbar(image, ax=axes, label="change of the logits, log10 of its share of the largest", shrink=0.85)
    leaks = [
        (column, row)
        for row, values in enumerate(shares)
        for column, value in enumerate(values)
        if measured.is_causal and column > row and value > 2e-5
    ]
    if leaks:
        columns, rows = zip(*leaks, strict=True)
        axes.scatter(columns, rows, s=28, marker="x", color=RED, label="sees the future")
        axes.legend(loc="upper right", fontsize=8)
    axes.set_xlabel("token that was replaced")
    axes.set_ylabel("position of the output")


def _draw_gradients(axes: Axes, measured: Measurements) -> None:
    axes.set_title("Gradient by layer, before training")
    if not measured.gradients:
        _show_not_measured(axes)
        return
    rows = _thinned(list(measured.gradients))
    smallest = min((value for _, value in rows if value > 0), default=1e-12) / 10
    colors = [BLUE if value > 0 else RED for _, value in rows]
    axes.barh(range(len(rows)), [max(value, smallest) for _, value in rows], color=colors, height=0.7)
    for index, (_, value) in enumerate(rows):
        if value <= 0:
            axes.annotate(" no gradient", (smallest, index), va="center", fontsize=8, color=RED)
    axes.set_yticks(range(len(rows)), [_short(name) for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("root mean square of the gradient")


def _draw_loss(axes: Axes, measured: Measurements) -> None:
    axes.set_title("Loss before training, compared with a uniform guess")
    if measured.initial_loss is None or measured.uniform_loss is None:
        _show_not_measured(axes)
        return
    values = (measured.uniform_loss, measured.initial_loss)
    color = GREEN if measured.excess <= 2.0 else RED
    bars = axes.bar(("uniform guess, ln V", "this model"), values, color=(GREY, color), width=0.5)
    axes.bar_label(bars, labels=[f"{value:.2f}" for value in values], padding=3)
    axes.set_ylabel("nats per target")
    axes.margins(y=0.15)


def _draw_entropy(axes: Axes, measured: Measurements) -> None:
    axes.set_title("Attention entropy per head, before training")
    rows = [(name, shares) for name, shares in measured.entropies if shares]
    if not rows:
        _show_not_measured(axes)
        return
    rows = _thinned(rows)
    for index, (_, shares) in enumerate(rows):
        colors = [RED if share < 0.05 else BLUE for share in shares]
        axes.scatter(shares, [index] * len(shares), c=colors, s=30, alpha=0.8)
    axes.set_yticks(range(len(rows)), [_short(name) for name, _ in rows], fontsize=8)
    axes.set_xlim(-0.03, 1.05)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("0: attends to one token, 1: to all tokens evenly")
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")


def _show_not_measured(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _thinned(rows: list[Row]) -> list[Row]:
    """Return at most ``MOST_BARS`` rows, evenly spaced, with the first and the last."""
    if len(rows) <= MOST_BARS:
        return rows
    step = (len(rows) - 1) / (MOST_BARS - 1)
    return [rows[round(index * step)] for index in range(MOST_BARS)]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else "…" + name[-LONGEST_NAME + 1 :]
