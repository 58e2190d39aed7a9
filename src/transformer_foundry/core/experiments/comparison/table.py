"""The table of a comparison, and what it says of each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.experiments.comparison.confidence import CONFIDENCE, is_difference, mean_interval
from transformer_foundry.core.experiments.comparison.run import MemberResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "cells_of", "comparison_table", "comparison_text", "shorten", "summarise"]

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
_LONGEST_NAME = 20


def summarise(results: Sequence[MemberResult]) -> list[dict[str, Any]]:
    """Return one row for each member, in the order in which they were named.

    Losses are means over seeds with their 95 % interval. The difference to the first member is paired: seed by seed,
    on the same batches, with its 99 % interval. Where that does not hold zero it is called better or worse, else there
    is ``no difference`` that these seeds could show; one seed shows none.
    """
    by_name: dict[str, list[MemberResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    if not by_name:
        return []
    first = next(iter(by_name))
    baseline = {result.seed: result.loss for result in by_name[first]}
    return [_row(name, members, baseline, name == first) for name, members in by_name.items()]


def comparison_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of ``summarise`` as a table."""
    import pandas as pd

    return pd.DataFrame(list(rows))


def comparison_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table as it is read in a terminal, and below it why trainings failed."""
    import pandas as pd

    table = pd.DataFrame([cells_of(row) for row in rows], columns=list(COLUMNS)).to_string(index=False)
    return "\n".join([table, *(f"{row['model']}: {row['problem']}" for row in rows if row["problem"])])


def _row(name: str, results: list[MemberResult], baseline: dict[int, float], is_first: bool) -> dict[str, Any]:
    failed = [result.problem for result in results if result.problem]
    losses = [result.loss for result in results if not result.problem]
    loss, interval = mean_interval(losses) if losses else (math.nan, None)
    pairs = [result.loss - baseline[result.seed] for result in results if result.seed in baseline]
    pairs = [pair for pair in pairs if math.isfinite(pair)]
    # The confidence of the verdict: the interval of a difference holds zero exactly where none was found.
    difference, half = mean_interval(pairs, confidence=CONFIDENCE) if pairs and not is_first else (None, None)
    newest = results[-1]
    return {
        "model": name,
        "parameters": newest.parameter_count,
        "seeds": len(losses),
        "steps": newest.steps,
        "tokens": newest.tokens,
        "flops": newest.flops,
        "split": newest.split,
        "loss": _finite(loss),
        "loss_interval": interval,
        "bits_per_byte": _mean([result.bits_per_byte for result in results if not result.problem]),
        "accuracy": _mean([result.accuracy for result in results if not result.problem]),
        "difference": difference,
        "difference_interval": half,
        "verdict": "" if is_first else _verdict(pairs, failed),
        "tokens_per_second": _mean([result.tokens_per_second for result in results]),
        "memory_gb": _mean([result.memory_gb for result in results]),
        "problem": "; ".join(dict.fromkeys(failed)),
    }


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


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of ``summarise`` as it is read, one cell for each of ``COLUMNS``."""

    def number(key: str, form: str) -> str:
        return "" if row[key] is None else format(row[key], form).replace("-", "\u2212")

    def with_interval(key: str, sign: str = "") -> str:
        half = row[f"{key}_interval"]
        return number(key, f"{sign}.4f") + ("" if half is None else f" ± {half:.4f}")

    return (
        shorten(row["model"]), f"{row['parameters']:,}", f"{row['steps']:,}", with_interval("loss"),
        number("bits_per_byte", ".3f"), with_interval("difference", "+"), row["verdict"],
        number("tokens_per_second", ",.0f"), number("memory_gb", ".2f"),
    )  # fmt: skip


def shorten(name: str) -> str:
    """Return a name that fits: the end tells two drawings apart more often than the middle."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half + 1 :]}"
