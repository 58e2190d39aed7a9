"""Nodes of the comparison pipeline."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.experiments import comparison
from transformer_foundry.core.experiments.comparison.options import BenchmarkOptions
from transformer_foundry.core.experiments.comparison.run import CandidateResult
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.types import DataFrame, Figure

__all__ = ["compare_models", "draw_comparison"]

_log = logging.getLogger(__name__)


def compare_models(
    previous_comparison: list[CandidateResult],
    model_export: ModelSource,
    token_splits: TokenSplits,
    training: TrainingOptions,
    benchmark: BenchmarkOptions,
) -> Iterator[CandidateResult]:
    """Train each model and yield its result; skip the trainings that an earlier session finished."""
    candidates = comparison.find_candidates(benchmark.models, token_splits, model_export)
    yield from comparison.compare_models(candidates, token_splits, training, benchmark, previous_comparison)


def draw_comparison(comparison_results: list[CandidateResult]) -> tuple[dict[str, Any], DataFrame, Figure]:
    """Return the comparison as a mapping, a table and a figure."""
    rows = comparison.summarize(comparison_results)
    _log.info("%s", comparison.comparison_text(rows))
    return (
        {"models": [dataclasses.asdict(row) for row in rows]},
        comparison.comparison_table(rows),
        comparison.comparison_figure(rows),
    )
