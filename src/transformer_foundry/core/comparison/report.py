"""The table, the sentences and the figure of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.comparison.running import MemberResult
from transformer_foundry.core.comparison.statistics import is_difference, mean_interval

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

__all__ = ["comparison_figure", "comparison_table", "summarise"]

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#888888"
_COLOURS = {"better": _GREEN, "worse": _ORANGE}


def summarise(results: Sequence[MemberResult]) -> list[dict[str, Any]]:
    """Return one row for each member, in the order in which they were named.

    Losses are means over seeds with their 95 % interval. The difference to the first member is paired: seed by seed,
    on the same batches. It is called better or worse with 99 % confidence, else there is ``no difference`` that these
    seeds could show; one seed shows none.
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


def comparison_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the loss of each model with its 95 % interval, and the rest of the table below."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2, cols=1, specs=[[{"type": "xy"}], [{"type": "table"}]], row_heights=[0.55, 0.45], vertical_spacing=0.14
    )
    figure.add_scatter(
        x=[row["model"] for row in rows],
        y=[row["loss"] for row in rows],
        error_y={"type": "data", "array": [row["loss_interval"] or 0 for row in rows]},
        mode="markers",
        marker={"size": 11, "color": [_COLOURS.get(row["verdict"], _BLUE) for row in rows]},
        showlegend=False,
        row=1,
        col=1,
    )
    header = ["model", "parameters", "steps", "loss", "bits per byte", "difference", "verdict", "tokens/s", "GB"]
    figure.add_table(
        header={"values": header, "align": "left"},
        cells={"values": list(zip(*map(_cells, rows), strict=True)), "align": "left"},
        row=2,
        col=1,
    )
    split = rows[0]["split"] if rows else "test"
    figure.update_yaxes(title=f"{split} loss, nats per target", row=1, col=1)
    figure.update_layout(
        title="Comparison: mean over seeds with its 95 % interval (green better, orange worse than the first)",
        template="plotly_white",
        height=420 + 40 * len(rows),
        margin={"l": 70, "r": 30, "t": 70, "b": 30},
    )
    return figure


def _row(name: str, results: list[MemberResult], baseline: dict[int, float], is_first: bool) -> dict[str, Any]:
    failed = [result.problem for result in results if result.problem]
    losses = [result.loss for result in results if not result.problem]
    loss, interval = mean_interval(losses) if losses else (math.nan, None)
    pairs = [result.loss - baseline[result.seed] for result in results if result.seed in baseline]
    pairs = [pair for pair in pairs if math.isfinite(pair)]
    difference, half = mean_interval(pairs) if pairs and not is_first else (None, None)
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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def number(key: str, form: str) -> str:
        return "" if row[key] is None else format(row[key], form)

    def with_interval(key: str, sign: str = "") -> str:
        half = row[f"{key}_interval"]
        return number(key, f"{sign}.4f") + ("" if half is None else f" ± {half:.4f}")

    return (
        row["model"], f"{row['parameters']:,}", f"{row['steps']:,}", with_interval("loss"),
        number("bits_per_byte", ".3f"), with_interval("difference", "+"), row["verdict"],
        number("tokens_per_second", ",.0f"), number("memory_gb", ".2f"),
    )  # fmt: skip
