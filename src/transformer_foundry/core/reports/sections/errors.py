"""Values of the section on the errors of a model: weak segments, confusions, calibration, the worst examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.base.text import format_number
from transformer_foundry.core.reports.rendering import mapping, mappings, sequence
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import line_chart

__all__ = ["errors_values"]

_WORST_EXAMPLES = 8
_MAX_CLASSES = 12
"""More do not fit side by side on a screen; of those the most frequent confusions are listed."""

_LABEL_COLUMNS = ("examples", "precision", "recall", "f1")
_QUARTER_COLUMNS = ("low", "high", "examples", "error", "rmse")
_COLUMNS = ("value", "examples", "loss", "accuracy", "difference", "standard_error")


def errors_values(record: RunRecord) -> dict[str, Any]:
    """Return the contents of ``error_analysis.json`` as tables and a chart."""
    segments = mappings(record.errors.get("segments"))
    calibration = mapping(record.errors.get("calibration"))
    pairs = [(item.get("confidence"), item.get("accuracy")) for item in mappings(calibration.get("bins"))]
    points = [(x, y) for x, y in pairs if isinstance(x, int | float) and isinstance(y, int | float)]
    series = {"share that is right": points, "as it should be": [(0.0, 0.0), (1.0, 1.0)]}
    chart = line_chart("How often predictions of a confidence are right", series, x_label="confidence")
    head, rows = _confusion(mapping(record.errors.get("confusion")))
    return {
        "segments": segments,
        "weak": [
            [item.get("segment", ""), *(format_number(item.get(name)) for name in _COLUMNS)]
            for item in segments
            if item.get("is_weak")
        ],
        "label_rows": [
            [item.get("label", ""), *(format_number(item.get(name)) for name in _LABEL_COLUMNS)]
            for item in mappings(record.errors.get("labels"))
        ],
        "quarter_rows": [
            [format_number(item.get(name)) for name in _QUARTER_COLUMNS]
            for item in mappings(mapping(record.errors.get("numbers")).get("quarters"))
        ],
        "confusion_head": head,
        "confusion_rows": rows,
        "calibration_points": points,
        "expected_error": calibration.get("expected_error"),
        "charts": [chart] if chart else [],
        "worst": mappings(record.errors.get("worst"))[:_WORST_EXAMPLES],
    }


def _confusion(found: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """Return the head and the rows of the confusion matrix; of many classes, of the most frequent confusions."""
    labels = [str(label) for label in sequence(found.get("labels"))]
    matrix = [[_count(value) for value in sequence(row)] for row in sequence(found.get("matrix"))]
    if not labels or [len(row) for row in matrix] != [len(labels)] * len(labels):
        return [], []
    if len(labels) > _MAX_CLASSES:
        pairs = ((count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count)
        most = sorted(pairs, key=lambda pair: -pair[0])[:_MAX_CLASSES]
        return ["true class", "taken for", "examples"], [[labels[i], labels[j], count] for count, i, j in most]
    rows: list[list[object]] = [
        [label, *(count or "" for count in row), f"{row[place] / max(1, sum(row)):.0%}"]
        for place, (label, row) in enumerate(zip(labels, matrix, strict=True))
    ]
    return ["true class, taken for:", *labels, "right"], rows


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
