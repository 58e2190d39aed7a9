"""Nodes of the comparison pipeline."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.files.provenance import CODE_VERSION, digest_of, with_origin
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.studies import comparison
from transformer_foundry.core.studies.comparison.options import BenchmarkOptions
from transformer_foundry.core.studies.comparison.run import CandidateResult
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK
from transformer_foundry.pipelines.reuse import EarlierResults, earlier_of, is_up_to_date
from transformer_foundry.pipelines.types import DataFrame, Figure

__all__ = ["compare_models", "draw_comparison"]

_log = logging.getLogger(__name__)


def compare_models(
    previous_comparison_results: list[CandidateResult],
    model_export: ModelSource,
    model_approval: dict[str, Any] | None,
    token_splits: TokenSplits,
    training: TrainingOptions,
    benchmark: BenchmarkOptions,
    validation: ValidationOptions,
) -> Iterator[CandidateResult]:
    """Train each model and yield its result; skip the trainings that an earlier session finished."""
    training = as_options(TrainingOptions, training, "training")
    benchmark = as_options(BenchmarkOptions, benchmark, "benchmark")
    validation = as_options(ValidationOptions, validation, "validation")
    require_sound(model_approval, model_export.identity, validation.on_errors)
    with RANDOM_LOCK.hold():
        candidates = comparison.find_candidates(benchmark.models, token_splits, model_export)
        yield from comparison.compare_models(candidates, token_splits, training, benchmark, previous_comparison_results)


def draw_comparison(
    comparison_results: list[CandidateResult],
    token_splits: TokenSplits,
    earlier_results: EarlierResults,
) -> tuple[dict[str, Any], DataFrame, Figure]:
    """Return the comparison as a mapping, a table and a figure; keep those of the same trainings."""
    rows = comparison.summarize(comparison_results)
    keys = [result.key for result in comparison_results]
    origin = {"data": token_splits.fingerprint, "parameters": digest_of(keys), "code": CODE_VERSION}
    what = f"{counted(len(keys), 'training')} of {counted(len(rows), 'model')}"
    earlier, figure = earlier_of(earlier_results, 0, 2)
    is_kept = earlier is not None and is_up_to_date(earlier, origin, "comparison", what)
    _log.info("%s", comparison.comparison_text(rows))
    if is_kept and figure is not None:
        return earlier, comparison.comparison_table(rows), figure
    return (
        with_origin({"models": [dataclasses.asdict(row) for row in rows]}, origin),
        comparison.comparison_table(rows),
        comparison.comparison_figure(rows),
    )
