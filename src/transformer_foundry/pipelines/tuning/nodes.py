"""Nodes of the tuning pipeline."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.files.provenance import origin_of, with_origin
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.studies import tuning as core_tuning
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.results.trial_result import TrialResult
from transformer_foundry.core.studies.tuning.storage import StudyHandle
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK
from transformer_foundry.pipelines.reuse import EarlierResults, earlier_of, is_up_to_date
from transformer_foundry.pipelines.types import DataFrame, Figure

__all__ = ["confirm_best", "draw_search", "search_parameters"]

_log = logging.getLogger(__name__)


def search_parameters(
    previous_study: StudyHandle,
    model_export: ModelSource,
    model_approval: dict[str, Any] | None,
    token_splits: TokenSplits,
    model: ModelOptions,
    training: TrainingOptions,
    tuning: TuningOptions,
    validation: ValidationOptions,
) -> Iterator[TrialResult]:
    """Search hyperparameters until the budget of the study is spent; yield each finished trial."""
    model, training, tuning = _options(model, training, tuning)
    validation = as_options(ValidationOptions, validation, "validation")
    require_sound(model_approval, model_export.identity, validation.on_errors)
    with RANDOM_LOCK.hold():
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
            on_session=previous_study.keep_copy,
        )


def draw_search(
    study: StudyHandle, model_export: ModelSource, model: ModelOptions, training: TrainingOptions, tuning: TuningOptions
) -> tuple[DataFrame, Figure, Figure, Figure, Figure]:
    """Return the table of the trials and the figures of the search."""
    model, training, tuning = _options(model, training, tuning)
    with RANDOM_LOCK.hold():
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
    earlier_results: EarlierResults,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the best parameters and their comparison with the default ones; keep those of the same trials."""
    model, training, tuning = _options(model, training, tuning)
    found, settings = study.study(), core_tuning.confirm_settings(training, tuning)
    origin = core_tuning.search_origin(found, model_export.identity, token_splits.fingerprint, settings)
    best, comparison = earlier_of(earlier_results, 0, 1)
    if best is not None and comparison is not None and origin_of(best) == origin_of(comparison):
        trials = core_tuning.shown_trials(found)
        ended = max((trial.datetime_complete for trial in trials if trial.datetime_complete), default=None)
        if is_up_to_date(comparison, origin, "tuning", counted(len(trials), "trial"), ended):
            return best, comparison
    steps, n_seeds, first_seed = settings["steps"], settings["n_seeds"], settings["first_seed"]
    with RANDOM_LOCK.hold():
        train = core_tuning.make_full_training(
            model_export, token_splits, training, steps, kind=model.kind, task=model.task
        )
        best, comparison = core_tuning.confirm(found, train, steps=steps, n_seeds=n_seeds, first_seed=first_seed)
        _log.info(
            "The search ended: %s. %s",
            found.user_attrs.get("stopped") or "it continues in another process",
            comparison["verdict"],
        )
        searched = {"model": model_export.identity, "data": token_splits.fingerprint}
        return with_origin(best | searched, origin), with_origin(comparison, origin)


def _options(
    model: ModelOptions, training: TrainingOptions, tuning: TuningOptions
) -> tuple[ModelOptions, TrainingOptions, TuningOptions]:
    return (
        as_options(ModelOptions, model, "model"),
        as_options(TrainingOptions, training, "training"),
        as_options(TuningOptions, tuning, "tuning"),
    )
