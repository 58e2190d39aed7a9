"""Where a trained model errs: weak kinds of examples, confusions, confidence, and its worst examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.reports.html import Markup, tag
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import line_chart
from transformer_foundry.core.reports.widgets import details, mapping, number, section, sequence, table

__all__ = ["errors_section"]

_WORST_EXAMPLES = 8
_MOST_CLASSES = 12
"""More do not fit on a screen side by side; of those the most frequent confusions are listed."""

_COLUMNS = ("value", "examples", "loss", "accuracy", "difference", "standard_error")


def errors_section(record: RunRecord) -> Markup | None:
    """Return what ``error_analysis.json`` says; the worst examples open at a click."""
    looked_at = [mapping(item) for item in sequence(record.errors.get("segments"))]
    weak = [item for item in looked_at if item.get("is_weak")]
    found = (
        "It is worse at these than at the others:" if weak else "No kind of example is clearly worse than the others."
    )
    return section(
        "errors",
        "Where the model errs",
        tag("p", found) if looked_at else None,
        table(
            ["segment", *(name.replace("_", " ") for name in _COLUMNS)],
            ([item.get("segment", ""), *(number(item.get(name)) for name in _COLUMNS)] for item in weak),
        ),
        _confusion(mapping(record.errors.get("confusion"))),
        *_calibration(mapping(record.errors.get("calibration"))),
        details("The examples with the highest loss", *_worst(record.errors)),
    )


def _confusion(found: Mapping[str, Any]) -> Markup | None:
    labels = [str(label) for label in sequence(found.get("labels"))]
    matrix = [[_count(value) for value in sequence(row)] for row in sequence(found.get("matrix"))]
    if not labels or [len(row) for row in matrix] != [len(labels)] * len(labels):
        return None
    if len(labels) > _MOST_CLASSES:
        pairs = ((count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count)
        most = sorted(pairs, key=lambda pair: -pair[0])[:_MOST_CLASSES]
        return table(["true class", "taken for", "examples"], ([labels[i], labels[j], count] for count, i, j in most))
    rows = [
        [label, *(count or "" for count in row), f"{row[place] / max(1, sum(row)):.0%}"]
        for place, (label, row) in enumerate(zip(labels, matrix, strict=True))
    ]
    return table(["true class, taken for:", *labels, "right"], rows)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _calibration(found: Mapping[str, Any]) -> list[Markup | None]:
    bins = [mapping(item) for item in sequence(found.get("bins"))]
    points = [(item.get("confidence"), item.get("accuracy")) for item in bins]
    drawn = [(x, y) for x, y in points if isinstance(x, int | float) and isinstance(y, int | float)]
    if not drawn:
        return []
    series = {"share that is right": drawn, "as it should be": [(0.0, 0.0), (1.0, 1.0)]}
    error = f"Confidence and the share that is right lie {number(found.get('expected_error'), 2)} apart on the average "
    chart = line_chart("How often predictions of a confidence are right", series, x_label="confidence")
    return [tag("p", error + "(expected calibration error; 0 is best)."), tag("div", chart, class_="charts")]


def _worst(errors: Mapping[str, Any]) -> list[Markup]:
    return [
        tag(
            "div",
            tag("pre", str(item.get("text", "")), dir="auto"),
            tag("p", f"expected {item.get('expected')}, predicted {item.get('predicted')}", class_="small"),
        )
        for item in map(mapping, sequence(errors.get("worst"))[:_WORST_EXAMPLES])
    ]
