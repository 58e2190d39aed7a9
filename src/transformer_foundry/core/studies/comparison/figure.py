"""Draw the figure of a comparison with plotly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformer_foundry.core.base.plots import BLUE, GREEN, GREY, RED
from transformer_foundry.core.studies.comparison.table import COLUMNS, ComparisonRow, cells_of, shorten

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["comparison_figure"]

_COLORS = {"better": GREEN, "worse": RED}
_PLOT_PX, _PLOT_ROW_PX, _GAP_PX, _TABLE_PX = 40, 36, 70, 60
_TABLE_ROW_PX, _TABLE_FONT_PX = 44, 11  # two lines
_LABEL_PX = 13
_MODEL_COLUMNS = 3
_WIDTHS = (30, 14, 14, 16, 20, 14, 9)


def comparison_figure(rows: Sequence[ComparisonRow]) -> Figure:
    """Draw the loss of each model with its 95 % interval, and the table below."""
    from plotly.subplots import make_subplots

    heights = [_PLOT_PX + _PLOT_ROW_PX * len(rows), _TABLE_PX + _TABLE_ROW_PX * len(rows)]
    height = sum(heights) + _GAP_PX
    figure = make_subplots(
        rows=2,
        cols=1,
        specs=[[{"type": "xy"}], [{"type": "table"}]],
        row_heights=heights,
        vertical_spacing=_GAP_PX / height,
    )
    _add_intervals(figure, rows)
    _add_table(figure, rows)
    figure.update_layout(
        title=f"Comparison with the first model: <span style='color:{GREEN}'>better</span>, "
        f"<span style='color:{RED}'>worse</span>, <span style='color:{BLUE}'>no difference found</span>",
        template="plotly_white",
        height=height + 100,
        margin={"l": 30, "r": 30, "t": 70, "b": 30},
    )
    return figure


def _add_intervals(figure: Figure, rows: Sequence[ComparisonRow]) -> None:
    names = [row.model for row in rows]
    figure.add_scatter(
        x=[row.loss for row in rows],
        y=names,
        error_x={"type": "data", "array": [row.loss_interval or 0 for row in rows], "color": GREY},
        mode="markers",
        marker={"size": 11, "color": [_COLORS.get(row.verdict, BLUE) for row in rows]},
        showlegend=False,
        row=1,
        col=1,
    )
    for name, row in zip(names, rows, strict=True):
        # Above its interval: an axis label would take the width that the table needs.
        label = shorten(name) + (": failed" if row.loss is None else "")
        place = {"x": 0, "xref": "x domain", "xanchor": "left", "y": name, "yref": "y", "yshift": _LABEL_PX}
        figure.add_annotation(text=label, showarrow=False, **place)
    split, seeds = (rows[0].split if rows else "test"), max((row.seeds for row in rows), default=0)
    figure.update_xaxes(title=f"{split} loss, nats per target (95 % interval, {seeds} seeds)", row=1, col=1)
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=names[::-1], showticklabels=False, row=1, col=1
    )


def _add_table(figure: Figure, rows: Sequence[ComparisonRow]) -> None:
    style = {"align": "left", "height": _TABLE_ROW_PX, "font": {"size": _TABLE_FONT_PX}}
    columns = list(zip(*(_two_lines(cells_of(row)) for row in rows), strict=True))
    figure.add_table(
        header={"values": _two_lines(COLUMNS), **style},
        cells={"values": columns, **style},
        columnwidth=_WIDTHS,
        row=2,
        col=1,
    )


def _two_lines(cells: Sequence[str]) -> list[str]:
    """Return narrow cells with line breaks: cells that plotly breaks grow beyond the figure and are cut off."""
    model, *size = cells[:_MODEL_COLUMNS]
    rest = [
        cell.replace(" ±", "<br>±").replace(" (", "<br>(").replace(" per ", "<br>per ")
        for cell in cells[_MODEL_COLUMNS:]
    ]
    return [f"{model}<br>{', '.join(size)}", *rest]
