"""A trial of the search as a short training of the real model with the real loop, which writes nothing to disk."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.errors import TrainingError
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.tuning.loop import TrainTrial
from transformer_foundry.core.tuning.options import TuningOptions
from transformer_foundry.core.tuning.searchable import SEARCHABLE
from transformer_foundry.core.tuning.space import SearchSpace

if TYPE_CHECKING:
    from transformer_foundry.core.data.splits import TokenSplits
    from transformer_foundry.core.exports import Export

__all__ = ["make_train_trial", "trial_identity"]

_SHARED = ("seed", "eval_batches")
"""Options that no search changes and every loss depends on. Device and precision move it by rounding only, and a
study may go on on another machine."""


def make_train_trial(
    export: Export,
    splits: TokenSplits,
    base_options: TrainingOptions,
    tuning_options: TuningOptions,
    *,
    kind: str | None = None,
    task: str | None = None,
) -> TrainTrial:
    """Return the ``train_trial`` of :func:`~transformer_foundry.core.tuning.loop.search` for a model and its data.

    Every trial begins with the same initial weights and sees the data in the same order.

    Args:
        export: The exported model; built anew for each trial.
        splits: The tokens to train and evaluate on, shared by all trials.
        base_options: The training options that the space does not search.
        tuning_options: Length of a trial and how often it is evaluated.
        kind: Kind of the model, if it is not to be found out.
        task: Task of the model, if it is not to be found out.
    """

    def train_trial(
        parameters: Mapping[str, Any],
        resume_from: Any = None,
    ) -> Generator[tuple[int, float], None, None]:
        from transformer_foundry.core.exports import load_model
        from transformer_foundry.core.training import Progress, fit

        options = trial_options(base_options, tuning_options, parameters)
        adapter = load_model(export, kind=kind, task=task, seed=options.seed)
        records = fit(adapter, splits, options, resume_from=resume_from)
        step = next(records).step
        try:
            for record in records:
                step = record.step
                if isinstance(record, Progress) and "eval/loss" in record.metrics:
                    yield step, record.metrics["eval/loss"]
        except TrainingError:
            # Once training has begun this means that the loss is lost: a result, as bad as one can be.
            yield step + 1, math.nan

    return train_trial


def trial_options(
    base_options: TrainingOptions, tuning_options: TuningOptions, parameters: Mapping[str, Any]
) -> TrainingOptions:
    """Return ``base_options`` with the trial's parameters, its length, even evaluations and nothing that is written."""
    return dataclasses.replace(
        base_options,
        **parameters,
        max_steps=tuning_options.max_steps,
        num_train_epochs=None,
        eval_steps=max(1, tuning_options.max_steps // tuning_options.evals_per_trial),
        logging_steps=tuning_options.max_steps,
        early_stopping_patience=None,
        num_samples=0,
        save_steps=None,
        save_minutes=None,
        save_epochs=False,
        use_best=False,
    )


def trial_identity(
    export: Export, splits: TokenSplits, base_options: TrainingOptions, space: SearchSpace
) -> dict[str, Any]:
    """Return what a trial's loss depends on beside the searched parameters: model, data and the other options."""
    searched = {dimension.name for dimension in space.dimensions}
    names = [name for name in (*SEARCHABLE, *_SHARED) if name not in searched]
    training = {name: getattr(base_options, name) for name in names}
    return {"model": export.identity, "data": splits.fingerprint, "training": training}
