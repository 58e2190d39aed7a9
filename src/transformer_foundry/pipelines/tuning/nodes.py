"""Nodes of the tuning pipeline."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.experiments import tuning as core_tuning
from transformer_foundry.core.experiments.tuning.options import TuningOptions
from transformer_foundry.core.experiments.tuning.results.trial_result import TrialResult
from transformer_foundry.core.experiments.tuning.storage import StudyHandle
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.types import DataFrame, Figure

__all__ = ["confirm_best", "draw_search", "search_parameters"]

_log = logging.getLogger(__name__)


def search_parameters(
    previous_study: StudyHandle,
    model_export: ModelSource,
    validation_report: dict[str, Any],
    token_splits: TokenSplits,
    model: ModelOptions,
    training: TrainingOptions,
    tuning: TuningOptions,
    validation: ValidationOptions,
) -> Iterator[TrialResult]:
    """Search hyperparameters until the budget of the study is spent; yield each finished trial."""
    require_sound(validation_report, model_export.identity, validation.on_errors)
    space = core_tuning.model_space(model_export, tuning, training, kind=model.kind, task=model.task)
    train_trial = core_tuning.make_train_trial(
        model_export, token_splits, training, tuning, space=space, kind=model.kind, task=model.task
    )
    yield from core_tuning.search(
        space,
        train_trial,
        tuning,
        previous_study.storage(),
        identity=core_tuning.trial_identity(model_export, token_splits, training, space),
        checkpoints=core_tuning.paused_checkpoints_in(previous_study.paused_folder, tuning.paused_gib),
        study_name=previous_study.name,
    )


def draw_search(
    study: StudyHandle, model_export: ModelSource, model: ModelOptions, training: TrainingOptions, tuning: TuningOptions
) -> tuple[DataFrame, Figure, Figure, Figure, Figure]:
    """Return the table of the trials and the figures of the search."""
    found = study.study()
    space = core_tuning.model_space(model_export, tuning, training, kind=model.kind, task=model.task)
    return (
        core_tuning.trials_table(found),
        core_tuning.history_figure(found),
        core_tuning.importance_figure(found),
        core_tuning.parallel_figure(found, space),
        core_tuning.timeline_figure(found, tuning.max_steps),
    )


def confirm_best(
    study: StudyHandle,
    model_export: ModelSource,
    token_splits: TokenSplits,
    model: ModelOptions,
    training: TrainingOptions,
    tuning: TuningOptions,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the best parameters with their model and data, and their comparison with the default ones."""
    found = study.study()
    steps = tuning.confirm_steps or training.max_steps
    train = core_tuning.make_full_training(
        model_export, token_splits, training, steps, kind=model.kind, task=model.task
    )
    best, comparison = core_tuning.confirm(
        found, train, steps=steps, n_seeds=tuning.confirm_seeds, first_seed=training.seed + 1
    )
    _log.info(
        "The search ended: %s. %s",
        found.user_attrs.get("stopped", "it continues in another process"),
        comparison["verdict"],
    )
    return {**best, "model": model_export.identity, "data": token_splits.fingerprint}, comparison
