"""The figure below the training cell of a notebook: loss against tokens, baselines, status and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.reports.rendering import render
from transformer_foundry.core.reports.sections.training import loss_chart

__all__ = ["LiveFigure"]

_SHOWN_SAMPLES = 2


class LiveFigure:
    """One output of the cell, replaced with each drawing.

    Args:
        baselines: Of the tokens; each that is a loss becomes a dotted line.
    """

    def __init__(self, baselines: Mapping[str, Any]) -> None:
        self._baselines = baselines
        self._rows: list[Mapping[str, Any]] = []
        self._samples: Sequence[str] = ()
        self._handle: Any = None

    def start(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Start with the rows of ``metrics.jsonl``, also after training has returned to a checkpoint."""
        self._rows = list(rows)

    def add(self, step: int, metrics: Mapping[str, float], samples: Sequence[str]) -> None:
        """Add the metrics of a step; nothing is drawn yet."""
        self._rows.append({"step": step, **metrics})
        self._samples = samples or self._samples

    def show(self, status: str) -> None:
        """Draw, with ``status`` above: step, loss, time left, last save."""
        from IPython.display import HTML, display

        page = HTML(self.render(status))
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)

    def render(self, status: str) -> str:
        """Return the figure as HTML without scripts."""
        return render(
            "live_figure.html",
            status=status,
            chart=loss_chart(self._rows, self._baselines, by_tokens=True),
            samples=self._samples[:_SHOWN_SAMPLES],
        )
