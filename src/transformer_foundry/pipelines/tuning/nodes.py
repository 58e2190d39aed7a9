"""Nodes of the tuning pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformer_foundry.core import tuning as core_tuning
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.verdict import require_sound
from transformer_foundry.core.data.splits import TokenSplits
from transformer_foundry.core.exports.fetch import Export
from transformer_foundry.core.exports.options import ModelOptions
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.tuning.options import TuningOptions
from transformer_foundry.core.tuning.records import TrialRecord
from transformer_foundry.core.tuning.searchable import training_space

__all__ = ["search_parameters", "summarise_search"]


def search_parameters(
    previous_study: Any,
    model_export: Export,
    validation_report: dict[str, Any],
    token_splits: TokenSplits,
    model: ModelOptions,
    training: TrainingOptions,
    tuning: TuningOptions,
    validation: ValidationOptions,
) -> Iterator[TrialRecord]:
    """Yield each trial that has ended, until the study has as many as were asked for."""
    require_sound(validation_report, model_export.identity, validation.on_errors)
    space = training_space(tuning.space, training)
    train_trial = core_tuning.make_train_trial(
        model_export, token_splits, training, tuning, kind=model.kind, task=model.task
    )
    identity = core_tuning.trial_identity(model_export, token_splits, training, space)
    yield from core_tuning.search(space, train_trial, tuning, previous_study.storage(), identity=identity)


def summarise_search(study: Any, model_export: Export, token_splits: TokenSplits) -> tuple[Any, dict[str, Any], Any]:
    """Return the table of trials, the best parameters with what they belong to, and the figure of the search."""
    finished = study.study()
    trials, parameters = core_tuning.summarise(finished)
    best = {
        "parameters": parameters,
        "loss": finished.best_value,
        "model": model_export.identity,
        "data": token_splits.fingerprint,
    }
    return trials, best, core_tuning.history_figure(finished)
