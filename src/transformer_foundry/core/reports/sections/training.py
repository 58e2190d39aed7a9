"""How training went: curves, how good the model is, what it writes, and what that took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.reports.html import Markup, tag
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import Points, line_chart
from transformer_foundry.core.reports.widgets import (
    chip,
    details,
    facts,
    mapping,
    number,
    section,
    sequence,
    size,
    table,
)

__all__ = [
    "baselines_section",
    "cost_section",
    "curves_section",
    "loss_chart",
    "newest",
    "samples_section",
]

_GIGA = 1e9
_EARLIER_SAMPLES = 12
_BASELINE_NAMES = {
    "unigram_loss": "token frequencies",
    "bigram_loss": "bigram model",
    "prior_loss": "class frequencies",
    "majority_accuracy": "most frequent class",
    "naive_bayes_accuracy": "naive Bayes",
}


def curves_section(record: RunRecord) -> Markup | None:
    """Return the curves of ``metrics.jsonl``."""
    rows = record.metrics
    charts = [
        loss_chart(rows, mapping(record.profile.get("baselines"))),
        _chart(rows, "eval/accuracy", "Validation accuracy"),
        _chart(rows, "train/learning_rate", "Learning rate"),
        _chart(rows, "train/grad_norm", "Gradient norm before clipping"),
    ]
    shown = [chart for chart in charts if chart]
    return section("curves", "Curves", tag("div", *shown, class_="charts")) if shown else None


def loss_chart(
    rows: Sequence[Mapping[str, Any]], baselines: Mapping[str, Any], *, by_tokens: bool = False
) -> Markup | None:
    """Return the loss on training and validation data, with a level line for each baseline that is a loss.

    Args:
        rows: Rows of ``metrics.jsonl``.
        baselines: Name -> value, as the profile of the data has them.
        by_tokens: Whether x is the tokens seen instead of the step.

    Returns:
        A figure; None before there are two points.
    """
    marks = {
        _BASELINE_NAMES.get(name, name): value
        for name, value in baselines.items()
        if name.endswith("_loss") and isinstance(value, int | float)
    }
    if by_tokens:
        rows = _with_tokens(rows)
    x = "tokens" if by_tokens else "step"
    return line_chart(
        "Loss, nats per target",
        {"training": _points(rows, "train/loss", x), "validation": _points(rows, "eval/loss", x)},
        x_label="tokens seen" if by_tokens else "step",
        marks=marks,
    )


def baselines_section(record: RunRecord) -> Markup | None:
    """Return the measures on held-out data, beside what is reached without a network."""
    evaluation = record.evaluation
    splits = {name: mapping(evaluation.get(name)) for name in ("validation", "test")}
    splits = {name: metrics for name, metrics in splits.items() if metrics}
    names = list(dict.fromkeys(name for metrics in splits.values() for name in metrics))
    measured = table(
        ["measure", *splits],
        ([_words(name), *(number(metrics.get(name)) for metrics in splits.values())] for name in names),
    )
    verdicts = [
        tag(
            "li",
            chip("beaten", "good") if item.get("is_beaten") else chip("not beaten", "warn"),
            f" {item.get('sentence', '')}",
        )
        for item in map(mapping, sequence(evaluation.get("comparisons")))
    ]
    return section(
        "baselines",
        "Results and baselines",
        tag("ul", *verdicts, class_="findings") if verdicts else None,
        measured,
    )


def samples_section(record: RunRecord) -> Markup | None:
    """Return what the model writes, now and on the way."""
    final = sequence(record.samples.get("samples"))
    earlier = [row for row in record.sampled if sequence(row.get("samples"))]
    if not final and earlier:
        *earlier, last = earlier
        final = sequence(last["samples"])
    kept = _spread(earlier, _EARLIER_SAMPLES)
    steps = [(tag("p", f"step {number(row['step'])}", class_="small"), _texts(row["samples"])) for row in kept]
    return section(
        "samples",
        "Samples",
        tag("p", "What the model was given >> what it made of it.", class_="small") if final else None,
        _texts(final),
        details("What it wrote on the way", *(part for pair in steps for part in pair)),
    )


def cost_section(record: RunRecord) -> Markup | None:
    """Return memory and speed."""
    rows = record.metrics
    memory, speed = _values(rows, "train/memory_gb"), _values(rows, "train/tokens_per_second")
    environment = mapping(record.manifest.get("environment"))
    told = facts(
        {
            "device": environment.get("gpu") or (f"CPU, {environment.get('processor_count')} cores" if rows else None),
            "peak memory": size(max(memory) * _GIGA) if memory else None,
            "tokens per second": number(statistics.median(speed), 3) if speed else None,
            "seconds per step": _median(rows, "train/step_seconds"),
            "seconds per evaluation": _median(rows, "eval/seconds"),
            "tokens seen": number(newest(rows, "train/tokens_seen")) if rows else None,
            "skipped steps": newest(rows, "train/skipped_steps"),
            "one checkpoint": size(record.manifest.get("checkpoint_bytes")) if rows else None,
        }
    )
    charts = [
        _chart(rows, "train/tokens_per_second", "Tokens per second"),
        _chart(rows, "train/memory_gb", "Memory, GB"),
    ]
    shown = [chart for chart in charts if chart]
    return section("cost", "Memory and speed", told, tag("div", *shown, class_="charts") if shown else None)


def newest(rows: Sequence[Mapping[str, Any]], metric: str) -> Any:
    """Return the last value of a metric, None if it was never logged."""
    return next((row[metric] for row in reversed(rows) if metric in row), None)


def _with_tokens(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows with the tokens seen by then; a row of an evaluation does not say it itself."""
    told: list[Mapping[str, Any]] = []
    tokens = 0.0
    for row in rows:
        tokens = row.get("train/tokens_seen", tokens)
        told.append({**row, "tokens": tokens})
    return told


def _points(rows: Sequence[Mapping[str, Any]], metric: str, x: str = "step") -> Points:
    return [(row[x], row[metric]) for row in rows if isinstance(row.get(metric), int | float)]


def _values(rows: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    return [value for _, value in _points(rows, metric)]


def _chart(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> Markup | None:
    return line_chart(title, {metric: _points(rows, metric)}, x_label="step")


def _median(rows: Sequence[Mapping[str, Any]], metric: str) -> str | None:
    values = _values(rows, metric)
    return number(statistics.median(values), 3) if values else None


def _texts(texts: Sequence[Any]) -> Markup | None:
    return tag("div", *(tag("pre", str(item), dir="auto") for item in texts)) if texts else None


def _spread(rows: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` of ``rows``, evenly spread, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (count - 1))] for index in range(count)]


def _words(name: str) -> str:
    return {"chrf": "chrF", "loss": "loss, nats per target"}.get(name, name.replace("_", " "))
