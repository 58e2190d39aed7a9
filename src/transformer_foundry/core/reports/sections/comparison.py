"""Values of the section on models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from transformer_foundry.core.base.text import format_number
from transformer_foundry.core.reports.rendering import mappings, render_chip
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import Interval, interval_chart

__all__ = ["models_values"]

_CHIPS = {"better": "good", "worse": "bad", "failed": "bad"}
_MEASURES = {
    "bits_per_byte": ("bits/byte", ".3f"),
    "accuracy": ("accuracy", ".3f"),
    "parameters": ("parameters", ",.0f"),
    "steps": ("steps", ",.0f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "memory_gb": ("GB", ".2f"),
}
"""Name in ``comparison.json`` -> its title, short because wide tables have to be scrolled, and its format."""


def models_values(record: RunRecord) -> dict[str, Any]:
    """Return the loss of each model, its difference from the first with the verdict, and what it costs."""
    models = mappings(record.models.get("models"))
    measures = {name: form for name, form in _MEASURES.items() if any(row.get(name) is not None for row in models)}
    return {
        "models": models,
        "chart": interval_chart("Loss, nats per target (95 % interval)", [_interval(row) for row in models]),
        "head": ["model", "verdict", "loss (95 %)", "difference (99 %)", *(title for title, _ in measures.values())],
        "rows": [
            [
                row.get("model", ""),
                _verdict(row),
                _with_interval(row, "loss", ".4f"),
                _with_interval(row, "difference", "+.4f"),
                *(_formatted(row.get(name), form) for name, (_, form) in measures.items()),
            ]
            for row in models
        ],
    }


def _interval(row: Mapping[str, Any]) -> Interval:
    loss, half = (row.get(name) for name in ("loss", "loss_interval"))
    value = float(loss) if isinstance(loss, int | float) else math.nan
    width = float(half) if isinstance(half, int | float) else 0.0
    return Interval(str(row.get("model", "")), value, width, _CHIPS.get(str(row.get("verdict")), ""))


def _with_interval(row: Mapping[str, Any], name: str, form: str) -> str:
    parts = ((row.get(name), form), (row.get(f"{name}_interval"), ".4f"))
    return " ± ".join(_formatted(value, how) for value, how in parts if value is not None)


def _formatted(value: object, form: str) -> str:
    return format(value, form).replace("-", "\u2212") if isinstance(value, int | float) else format_number(value)


def _verdict(row: Mapping[str, Any]) -> Markup | str:
    verdict = str(row.get("verdict") or "")
    return render_chip(verdict, _CHIPS.get(verdict, "calm")) if verdict else ""
