"""Values of the sections on a training: curves, results and baselines, samples, memory and speed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from transformer_foundry.core.base.text import format_number, format_size
from transformer_foundry.core.reports.rendering import mapping, mappings, sequence
from transformer_foundry.core.reports.run_record import Row, RunRecord
from transformer_foundry.core.reports.svg_charts import Points, line_chart

__all__ = [
    "baselines_values",
    "cost_values",
    "curves_values",
    "loss_chart",
    "newest",
    "samples_values",
]

_GIGA = 1e9
_EARLIER_SAMPLES = 12
_BASELINE_NAMES = {
    "unigram_loss": "token frequencies",
    "bigram_loss": "bigram model",
    "prior_loss": "class frequencies",
    "majority_accuracy": "most frequent class",
    "naive_bayes_accuracy": "naive Bayes",
    "every_label_micro_f1": "every label",
    "naive_bayes_micro_f1": "naive Bayes for each label",
    "mean_loss": "mean of the training numbers",
    "mean_rmse": "mean of the training numbers",
    "median_mae": "median of the training numbers",
}
_MEASURE_NAMES = {"chrf": "chrF", "bleu": "BLEU", "rouge_l": "ROUGE-L"}


def curves_values(record: RunRecord) -> dict[str, Any]:
    """Return the curves of ``metrics.jsonl``."""
    rows = record.metrics
    charts = [
        loss_chart(rows, mapping(record.profile.get("baselines"))),
        _chart(rows, "eval/accuracy", "Validation accuracy"),
        _chart(rows, "eval/micro_f1", "Validation micro F1"),
        _chart(rows, "eval/spearman", "Validation Spearman correlation"),
        _chart(rows, "train/learning_rate", "Learning rate"),
        _chart(rows, "train/grad_norm", "Gradient norm before clipping"),
    ]
    return {"charts": [chart for chart in charts if chart]}


def loss_chart(rows: Sequence[Row], baselines: Mapping[str, Any], *, by_tokens: bool = False) -> Markup | None:
    """Return the loss on training and validation data, with a level line for each baseline that is a loss.

    Args:
        rows: Rows of ``metrics.jsonl``.
        baselines: Name -> value, as in the profile of the data.
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
        f"Loss, {_loss_unit(baselines)}",
        {"training": _points(rows, "train/loss", x), "validation": _points(rows, "eval/loss", x)},
        x_label="tokens seen" if by_tokens else "step",
        marks=marks,
    )


def _loss_unit(baselines: Mapping[str, Any]) -> str:
    """Return the unit of a loss: that of a regression is compared with the mean."""
    return "variances of the training numbers" if "mean_loss" in baselines else "nats per target"


def baselines_values(record: RunRecord) -> dict[str, Any]:
    """Return the measures on held-out data, and how they compare with baselines that need no network."""
    splits = {name: mapping(record.evaluation.get(name)) for name in ("validation", "test")}
    splits = {name: metrics for name, metrics in splits.items() if metrics}
    shown = _MEASURE_NAMES | {"loss": f"loss, {_loss_unit(mapping(record.evaluation.get('baselines')))}"}
    names = dict.fromkeys(name for metrics in splits.values() for name in metrics)
    return {
        "comparisons": mappings(record.evaluation.get("comparisons")),
        "head": ["measure", *splits],
        "rows": [
            [
                shown.get(name, name.replace("_", " ")),
                *(format_number(metrics.get(name)) for metrics in splits.values()),
            ]
            for name in names
        ],
    }


def samples_values(record: RunRecord) -> dict[str, Any]:
    """Return the texts that the model writes, and those that it wrote during training."""
    final = sequence(record.samples.get("samples"))
    earlier = [row for row in record.sampled if sequence(row.get("samples"))]
    if not final and earlier:
        *earlier, last = earlier
        final = sequence(last["samples"])
    return {"final": final, "earlier": _spread(earlier, _EARLIER_SAMPLES)}


def cost_values(record: RunRecord) -> dict[str, Any]:
    """Return memory and speed of the training."""
    rows = record.metrics
    memory, speed = _values(rows, "train/memory_gb"), _values(rows, "train/tokens_per_second")
    environment = mapping(record.manifest.get("environment"))
    charts = [
        _chart(rows, "train/tokens_per_second", "Tokens per second"),
        _chart(rows, "train/memory_gb", "Memory, GB"),
    ]
    return {
        "charts": [chart for chart in charts if chart],
        "facts": {
            "device": environment.get("gpu") or (f"CPU, {environment.get('processor_count')} cores" if rows else None),
            "peak memory": format_size(max(memory) * _GIGA) if memory else None,
            "tokens per second": format_number(statistics.median(speed), 3) if speed else None,
            "seconds per step": _median(rows, "train/step_seconds"),
            "seconds per evaluation": _median(rows, "eval/seconds"),
            "tokens seen": format_number(newest(rows, "train/tokens_seen")) if rows else None,
            "skipped steps": newest(rows, "train/skipped_steps"),
            "one checkpoint": format_size(record.manifest.get("checkpoint_bytes")) if rows else None,
        },
    }


def newest(rows: Sequence[Row], metric: str) -> Any:
    """Return the last value of a metric; None if it was never logged."""
    return next((row[metric] for row in reversed(rows) if metric in row), None)


def _with_tokens(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the tokens seen so far, which rows of an evaluation lack."""
    completed: list[Row] = []
    tokens = 0.0
    for row in rows:
        tokens = row.get("train/tokens_seen", tokens)
        completed.append({**row, "tokens": tokens})
    return completed


def _points(rows: Sequence[Row], metric: str, x: str = "step") -> Points:
    return [(row[x], row[metric]) for row in rows if isinstance(row.get(metric), int | float)]


def _values(rows: Sequence[Row], metric: str) -> list[float]:
    return [value for _, value in _points(rows, metric)]


def _chart(rows: Sequence[Row], metric: str, title: str) -> Markup | None:
    return line_chart(title, {metric: _points(rows, metric)}, x_label="step")


def _median(rows: Sequence[Row], metric: str) -> str | None:
    values = _values(rows, metric)
    return format_number(statistics.median(values), 3) if values else None


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most ``count`` of ``rows``, evenly spread, including the first and the last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (count - 1))] for index in range(count)]
