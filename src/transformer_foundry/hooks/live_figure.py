"""What grows below the training cell of a notebook: loss against tokens, the baselines, how it goes, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.reports.html import Markup, tag
from transformer_foundry.core.reports.sections.training import loss_chart

__all__ = ["LiveFigure"]

_SHOWN_SAMPLES = 2

_STYLE = """
.foundry-live { --line: #d8dde5; --soft: #566072; --s0: #0072b2; --s1: #c2590a; --mark: #7b8494; max-width: 44rem;
  font: 14px/1.5 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .foundry-live {
  --line: #444d5a; --soft: #a3adbd; --s0: #58b4ee; --s1: #f0a04b; } }
html[theme=dark] .foundry-live, body[data-jp-theme-light=false] .foundry-live, .vscode-dark .foundry-live {
  --line: #444d5a; --soft: #a3adbd; --s0: #58b4ee; --s1: #f0a04b; }
html[theme=light] .foundry-live, body[data-jp-theme-light=true] .foundry-live, .vscode-light .foundry-live {
  --line: #d8dde5; --soft: #566072; --s0: #0072b2; --s1: #c2590a; }
.foundry-live figure { margin: 0; max-width: 34rem; } .foundry-live figcaption { font-weight: 600; }
.foundry-live svg { display: block; width: 100%; height: auto; }
.foundry-live svg text { fill: var(--soft); font-size: 11px; }
.foundry-live .grid { stroke: var(--line); } .foundry-live .curve { fill: none; stroke-width: 2; }
.foundry-live .curve.s0 { stroke: var(--s0); } .foundry-live .curve.s1 { stroke: var(--s1); }
.foundry-live .dot.s0 { fill: var(--s0); } .foundry-live .dot.s1 { fill: var(--s1); }
.foundry-live line.mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 2 4; }
.foundry-live .legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 16px; padding: 0; margin: 4px 0;
  color: var(--soft); }
.foundry-live .key { display: inline-block; width: 1.2em; margin-right: .4em; vertical-align: middle;
  border-top: 3px solid var(--s0); }
.foundry-live .key.s1 { border-color: var(--s1); } .foundry-live .key.mark { border-top: 2px dotted var(--mark); }
.foundry-live pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0; }
"""
"""Colab, JupyterLab and VS Code each say in a way of their own whether the page is dark."""


class LiveFigure:
    """One output of the cell, replaced with each drawing.

    Args:
        baselines: Those of the tokens; each that is a loss becomes a dotted line.
    """

    def __init__(self, baselines: Mapping[str, Any]) -> None:
        self._baselines = baselines
        self._rows: list[Mapping[str, Any]] = []
        self._samples: Sequence[str] = ()
        self._handle: Any = None

    def start(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Begin with the rows of ``metrics.jsonl`` that are there, also after training went back to a checkpoint."""
        self._rows = list(rows)

    def add(self, step: int, metrics: Mapping[str, float], samples: Sequence[str]) -> None:
        """Take a record of training into the figure; nothing is drawn yet."""
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

    def render(self, status: str) -> Markup:
        """Return the figure as HTML without scripts."""
        samples = [tag("pre", text, dir="auto") for text in self._samples[:_SHOWN_SAMPLES]]
        return tag(
            "div",
            tag("style", Markup(_STYLE)),
            tag("p", status),
            loss_chart(self._rows, self._baselines, by_tokens=True),
            tag("p", "What the model was given >> what it made of it:") if samples else None,
            *samples,
            class_="foundry-live",
        )
