"""Models side by side, where the run was a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.report.markup import Markup, tag
from transformer_foundry.core.report.parts import chip, mapping, number, section, sequence, table
from transformer_foundry.core.report.record import RunRecord

__all__ = ["models_section"]

_CHIPS = {"better": "good", "worse": "warn", "failed": "bad"}
_MEASURES = ("bits_per_byte", "accuracy", "parameters", "steps", "tokens_per_second", "memory_gb")
_HEAD = ("model", "loss (95 %)", "difference (99 %)", "verdict")


def models_section(record: RunRecord) -> Markup | None:
    """Return the models that were compared: loss, difference to the first with its verdict, and what they cost."""
    rows = [mapping(item) for item in sequence(record.models.get("models"))]
    if not rows:
        return None
    measures = [name for name in _MEASURES if any(row.get(name) is not None for row in rows)]
    means = f"Means over {number(rows[0].get('seeds'))} seeds, on the {rows[0].get('split')} split"
    return section(
        "models",
        "Models side by side",
        table(
            [*_HEAD, *(name.replace("_", " ") for name in measures)],
            (
                [
                    row.get("model", ""),
                    _with_interval(row, "loss"),
                    _with_interval(row, "difference"),
                    _verdict(str(row.get("verdict") or "")),
                    *(number(row.get(name)) for name in measures),
                ]
                for row in rows
            ),
        ),
        *(tag("p", f"{row.get('model')}: {row['problem']}", class_="small") for row in rows if row.get("problem")),
        tag("p", f"{means}; the difference is to the first model.", class_="small"),
    )


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    value, half = row.get(name), row.get(f"{name}_interval")
    return " ± ".join(
        f"{part:.4f}" if isinstance(part, float) else number(part) for part in (value, half) if part is not None
    )


def _verdict(text: str) -> Markup | str:
    return chip(text, _CHIPS.get(text, "calm")) if text else ""
