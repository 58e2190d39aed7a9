"""Models side by side, where the run was a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.reports.html import Markup, tag
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import interval_chart
from transformer_foundry.core.reports.widgets import chip, mapping, number, section, sequence, table

__all__ = ["models_section"]

_CHIPS = {"better": "good", "worse": "bad", "failed": "bad"}
_MEASURES = {
    "bits_per_byte": ("bits/byte", ".3f"),
    "accuracy": ("accuracy", ".3f"),
    "parameters": ("parameters", ",.0f"),
    "steps": ("steps", ",.0f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "memory_gb": ("GB", ".2f"),
}
"""Name in ``comparison.json`` -> its title and form: wide tables have to be scrolled."""


def models_section(record: RunRecord) -> Markup | None:
    """Return the models that were compared: loss, difference to the first with its verdict, and what they cost."""
    rows = [mapping(item) for item in sequence(record.models.get("models"))]
    if not rows:
        return None
    measures = {name: form for name, form in _MEASURES.items() if any(row.get(name) is not None for row in rows)}
    means = f"Means over {number(rows[0].get('seeds'))} seeds, on the {rows[0].get('split')} split"
    return section(
        "models",
        "Models side by side",
        interval_chart("Loss, nats per target (95 % interval)", [_interval(row) for row in rows]),
        table(
            ["model", "verdict", "loss (95 %)", "difference (99 %)", *(title for title, _ in measures.values())],
            (
                [
                    row.get("model", ""),
                    _verdict(row),
                    _with_interval(row, "loss", ".4f"),
                    _with_interval(row, "difference", "+.4f"),
                    *(_written(row.get(name), form) for name, (_, form) in measures.items()),
                ]
                for row in rows
            ),
        ),
        *(tag("p", f"{row.get('model')}: {row['problem']}", class_="small") for row in rows if row.get("problem")),
        tag("p", f"{means}; the difference is to the first model, seed by seed.", class_="small"),
    )


def _interval(row: Mapping[str, Any]) -> tuple[str, float, float, str]:
    loss, half = (row.get(name) for name in ("loss", "loss_interval"))
    value = float(loss) if isinstance(loss, int | float) else math.nan
    width = float(half) if isinstance(half, int | float) else 0.0
    return str(row.get("model", "")), value, width, _CHIPS.get(str(row.get("verdict")), "")


def _with_interval(row: Mapping[str, Any], name: str, form: str) -> str:
    parts: Sequence[tuple[object, str]] = ((row.get(name), form), (row.get(f"{name}_interval"), ".4f"))
    return " ± ".join(_written(value, how) for value, how in parts if value is not None)


def _written(value: object, form: str) -> str:
    return format(value, form).replace("-", "\u2212") if isinstance(value, int | float) else number(value)


def _verdict(row: Mapping[str, Any]) -> Markup | str:
    text = str(row.get("verdict") or "")
    return chip(text, _CHIPS.get(text, "calm")) if text else ""
