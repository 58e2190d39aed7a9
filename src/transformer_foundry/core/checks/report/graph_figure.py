"""Figure of the drawn graph of a configuration, with the blocks that have a problem marked."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import TYPE_CHECKING

from transformer_foundry.core.checks.probing.drawn_graph import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_graph"]

PLAIN, MARKED, EDGE = "#DCE9F5", "#F6C9A8", "#666666"
BOX_WIDTH, BOX_HEIGHT, LANE = 1.0, 0.62, 1.35


def draw_graph(graph: Graph, marked: Collection[str] = (), *, axes: Axes | None = None) -> Axes:
    """Draw the blocks from top to bottom in the order of the data flow, and the arrows between them.

    Args:
        graph: The drawn graph.
        marked: Ids of the blocks to mark.
        axes: Axes to draw on; those of a new figure when None.
    """
    if axes is None:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(4, max(3.0, 0.6 * len(graph.nodes))), layout="constrained").add_subplot()
    positions = {node.id: (0.0, -float(row)) for row, node in enumerate(graph.nodes)}
    for source, target in graph.edges or _chain(graph):
        if source in positions and target in positions:
            _draw_edge(axes, positions[source], positions[target])
    for node in graph.nodes:
        _draw_node(axes, positions[node.id], node.id, node.id in marked)
    axes.set_xlim(-BOX_WIDTH, BOX_WIDTH + LANE)
    axes.set_ylim(-len(graph.nodes) + 0.3, 0.7)
    axes.set_title("The drawn model" + (", problem marked" if marked else ""))
    axes.axis("off")
    return axes


def _chain(graph: Graph) -> tuple[tuple[str, str], ...]:
    """Return arrows from each block to the next: without arrows, blocks are listed in the order in which they run."""
    ids = [node.id for node in graph.nodes]
    return tuple(itertools.pairwise(ids))


def _draw_edge(axes: Axes, source: tuple[float, float], target: tuple[float, float]) -> None:
    distance = source[1] - target[1]
    is_next = abs(distance - 1) < 1e-9
    # An arrow that skips blocks is drawn as an arc beside them.
    curve = 0.0 if is_next else 0.35
    side = 0.0 if is_next else BOX_WIDTH * 0.5
    axes.annotate(
        "",
        xy=(target[0] + side, target[1] + (BOX_HEIGHT / 2 if is_next else 0)),
        xytext=(source[0] + side, source[1] - (BOX_HEIGHT / 2 if is_next else 0)),
        arrowprops={"arrowstyle": "-|>", "color": EDGE, "connectionstyle": f"arc3,rad={-curve}", "linewidth": 1.0},
    )


def _draw_node(axes: Axes, position: tuple[float, float], name: str, is_marked: bool) -> None:
    axes.text(
        position[0],
        position[1],
        name + ("  ◄ here" if is_marked else ""),
        ha="center",
        va="center",
        fontsize=9,
        fontweight="bold" if is_marked else "normal",
        bbox={
            "boxstyle": "round,pad=0.35",
            "facecolor": MARKED if is_marked else PLAIN,
            "edgecolor": "#B5521B" if is_marked else "#7A9CBF",
            "linewidth": 2.0 if is_marked else 1.0,
        },
    )
