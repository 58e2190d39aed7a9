"""Nodes of the comparison pipeline."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.experiments import comparison
from transformer_foundry.core.experiments.comparison.options import BenchmarkOptions
from transformer_foundry.core.experiments.comparison.run import MemberResult
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["compare_models", "draw_comparison"]

_log = logging.getLogger(__name__)


def compare_models(
    previous_comparison: list[MemberResult],
    model_export: ModelSource,
    token_splits: TokenSplits,
    training: TrainingOptions,
    benchmark: BenchmarkOptions,
) -> Iterator[MemberResult]:
    """Yield the result of each training; those of an earlier session are not repeated."""
    members = comparison.find_members(benchmark.models, token_splits, model_export)
    yield from comparison.compare_models(members, token_splits, training, benchmark, previous_comparison)


def draw_comparison(comparison_results: list[MemberResult]) -> tuple[dict[str, Any], Any, Any]:
    """Return the comparison as json, as a table and as a figure."""
    rows = comparison.summarise(comparison_results)
    _log.info("%s", comparison.comparison_text(rows))
    return {"models": rows}, comparison.comparison_table(rows), comparison.comparison_figure(rows)
