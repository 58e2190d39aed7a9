"""Summarize a comparison: one row for each model, as a table and as text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformer_foundry.core.base.text import spreadsheet_cell
from transformer_foundry.core.studies.comparison.confidence import CONFIDENCE, is_difference, mean_interval
from transformer_foundry.core.studies.comparison.run import CandidateResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "ComparisonRow", "cells_of", "comparison_table", "comparison_text", "shorten", "summarize"]

COLUMNS = (
    "model",
    "parameters",
    "steps",
    "loss (95 %)",
    "bits per byte",
    "difference (99 %)",
    "verdict",
    "tokens/s",
    "GB",
)
_MAX_NAME = 20


@dataclass(frozen=True)
class ComparisonRow:
    """A model in ``comparison.json``: means over its seeds.

    Attributes:
        model: Name of the model.
        parameters: Number of parameters.
        seeds: Trainings that did not fail.
        steps: Updates of the newest training.
        tokens: Tokens of the newest training.
        flops: Floating point operations of the newest training.
        split: Split of the measures.
        loss: Nats per target; None if all trainings failed.
        loss_interval: Half the width of its 95 % interval; None for a single seed.
        bits_per_byte: Loss in bits per byte, for causal language models.
        accuracy: Share of targets that are predicted.
        difference: Mean of the loss minus that of the first model, seed by seed; None for the first.
        difference_interval: Half the width of its 99 % interval.
        verdict: "better", "worse", "no difference", "failed", "not known"; empty for the first model.
        tokens_per_second: Speed of training.
        memory_gb: Peak memory; None if unknown.
        problem: Why trainings failed; empty otherwise.
    """

    model: str
    parameters: int
    seeds: int
    steps: int
    tokens: int
    flops: float
    split: str
    loss: float | None
    loss_interval: float | None
    bits_per_byte: float | None
    accuracy: float | None
    difference: float | None
    difference_interval: float | None
    verdict: str
    tokens_per_second: float | None
    memory_gb: float | None
    problem: str


def summarize(results: Sequence[CandidateResult]) -> list[ComparisonRow]:
    """Return one row for each model, in the order in which they were named.

    The difference from the first model is paired: seed by seed, on the same batches. If its 99 % interval does not
    contain zero, the model is called better or worse, otherwise ``no difference``; one seed shows none.
    """
    by_name: dict[str, list[CandidateResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    if not by_name:
        return []
    first = next(iter(by_name))
    baseline = {result.seed: result.loss for result in by_name[first]}
    return [_row(name, group, baseline, name == first) for name, group in by_name.items()]


def comparison_table(rows: Sequence[ComparisonRow]) -> pd.DataFrame:
    """Return the rows of ``summarize`` as a table."""
    import pandas as pd

    cells = [{name: spreadsheet_cell(value) for name, value in dataclasses.asdict(row).items()} for row in rows]
    return pd.DataFrame(cells)


def comparison_text(rows: Sequence[ComparisonRow]) -> str:
    """Return the table as text for a terminal, and below it why trainings failed."""
    import pandas as pd

    table = pd.DataFrame([cells_of(row) for row in rows], columns=list(COLUMNS)).to_string(index=False)
    return "\n".join([table, *(f"{row.model}: {row.problem}" for row in rows if row.problem)])


def _row(name: str, results: list[CandidateResult], baseline: dict[int, float], is_first: bool) -> ComparisonRow:
    failed = [result.problem for result in results if result.problem]
    losses = [result.loss for result in results if not result.problem]
    loss, interval = mean_interval(losses) if losses else (math.nan, None)
    pairs = [result.loss - baseline[result.seed] for result in results if result.seed in baseline]
    pairs = [pair for pair in pairs if math.isfinite(pair)]
    # The confidence of the verdict: the interval of a difference contains zero exactly if none was found.
    difference, half = mean_interval(pairs, confidence=CONFIDENCE) if pairs and not is_first else (None, None)
    newest = results[-1]
    return ComparisonRow(
        model=name,
        parameters=newest.parameter_count,
        seeds=len(losses),
        steps=newest.steps,
        tokens=newest.tokens,
        flops=newest.flops,
        split=newest.split,
        loss=_finite(loss),
        loss_interval=interval,
        bits_per_byte=_mean([result.bits_per_byte for result in results if not result.problem]),
        accuracy=_mean([result.accuracy for result in results if not result.problem]),
        difference=difference,
        difference_interval=half,
        verdict="" if is_first else _verdict(pairs, failed),
        tokens_per_second=_mean([result.tokens_per_second for result in results]),
        memory_gb=_mean([result.memory_gb for result in results]),
        problem="; ".join(dict.fromkeys(failed)),
    )


def _verdict(pairs: Sequence[float], failed: Sequence[str]) -> str:
    if failed:
        return "failed"
    known = is_difference(pairs) if pairs else None
    if known is None:
        return "not known: one seed" if len(pairs) == 1 else "not known"
    if not known:
        return "no difference"
    return "better" if sum(pairs) < 0 else "worse"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def cells_of(row: ComparisonRow) -> tuple[str, ...]:
    """Return a row as text, one cell for each of ``COLUMNS``."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form).replace("-", "\u2212")

    def with_interval(value: float | None, half: float | None, form: str) -> str:
        return number(value, form) + ("" if half is None else f" ± {half:.4f}")

    return (
        shorten(row.model),
        f"{row.parameters:,}",
        f"{row.steps:,}",
        with_interval(row.loss, row.loss_interval, ".4f"),
        number(row.bits_per_byte, ".3f"),
        with_interval(row.difference, row.difference_interval, "+.4f"),
        row.verdict,
        number(row.tokens_per_second, ",.0f"),
        number(row.memory_gb, ".2f"),
    )


def shorten(name: str) -> str:
    """Return a name that fits in the table, without its middle: names differ more often at the end."""
    if len(name) <= _MAX_NAME:
        return name
    half = _MAX_NAME // 2
    return f"{name[:half]}…{name[-half + 1 :]}"
