"""Train one trial of a search: a short training of the model with the training loop."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import CheckpointError, ModelError, ParameterError, TrainingError
from transformer_foundry.core.studies.tuning.default_spaces import (
    MODEL_PREFIX,
    SEARCHABLE,
    split_parameters,
    training_space,
)
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.paused_checkpoints import FolderCheckpoints
from transformer_foundry.core.studies.tuning.search_loop import TrainTrial, TrialReport
from transformer_foundry.core.studies.tuning.space import SearchSpace
from transformer_foundry.core.studies.tuning.strategies.pruners import evaluation_steps, pause_step
from transformer_foundry.core.training.options import TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.models import ModelSource
    from transformer_foundry.core.training import Checkpoint
    from transformer_foundry.core.training.events import Event

__all__ = [
    "confirm_settings",
    "make_full_training",
    "make_train_trial",
    "model_space",
    "paused_checkpoints_in",
    "trial_identity",
]

_SHARED = ("seed", "eval_batches")
"""Options that no search changes and every loss depends on. Device and precision change it by rounding only, and a
study may continue on another machine."""

_GIB = 2**30


def make_train_trial(
    export: ModelSource,
    splits: TokenSplits,
    base_options: TrainingOptions,
    tuning_options: TuningOptions,
    *,
    space: SearchSpace | None = None,
    kind: str | None = None,
    task: str | None = None,
) -> TrainTrial:
    """Return the ``train_trial`` of ``search`` for a model and its data.

    Every trial starts with the same initial weights and trains on the data in the same order.

    Args:
        export: The exported model; built for each trial.
        splits: The tokens to train and evaluate on, shared by all trials.
        base_options: The training options that the space does not search.
        tuning_options: Length of a trial and how often it is evaluated.
        space: What is searched; its longest warm-up decides when trials pause. None takes ``tuning_options.space``.
        kind: Kind of the model; None infers it.
        task: Task of the model; None infers it.
    """
    space = space or training_space(tuning_options.space, base_options)
    pause_at = pause_step(tuning_options, space.largest("warmup_ratio", otherwise=0.0))

    def train_trial(
        parameters: Mapping[str, Any], resume_from: Checkpoint | None = None
    ) -> Generator[TrialReport, None, None]:
        from transformer_foundry.core.models import load_model
        from transformer_foundry.core.training import fit

        training, overrides = split_parameters(parameters)
        options = trial_options(base_options, tuning_options, training, save_steps=pause_at)
        adapter = load_model(export, kind=kind, task=task, overrides=overrides, seed=options.seed)
        state = None if resume_from is None else resume_from.state
        try:
            yield from _reports(fit(adapter, splits, options, resume_from=state), pause_at)
        finally:
            # After running out of memory, the traceback holds the tensors until they are collected.
            del adapter
            _free_memory()

    return train_trial


def make_full_training(
    export: ModelSource,
    splits: TokenSplits,
    base_options: TrainingOptions,
    max_steps: int,
    *,
    kind: str | None = None,
    task: str | None = None,
) -> Callable[[Mapping[str, Any], int], float]:
    """Return a function (parameters, seed) -> final validation loss in nats; NaN if training diverges."""

    def train(parameters: Mapping[str, Any], seed: int) -> float:
        from transformer_foundry.core.models import load_model
        from transformer_foundry.core.training import fit

        training, overrides = split_parameters(parameters)
        options = dataclasses.replace(base_options, **training, seed=seed, **_quiet(max_steps, max_steps))
        adapter = load_model(export, kind=kind, task=task, overrides=overrides, seed=seed)
        *_, last = _reports(fit(adapter, splits, options), None)
        return float(last[1])

    return train


def confirm_settings(base_options: TrainingOptions, tuning_options: TuningOptions) -> dict[str, Any]:
    """Return on what the comparison of the winner with the default depends beside trials, model and data.

    Returns:
        ``steps``, ``n_seeds`` and ``first_seed`` as ``confirm`` takes them, and ``training``: the other options.
    """
    return {
        "steps": tuning_options.confirm_steps or base_options.max_steps,
        "n_seeds": tuning_options.confirm_seeds,
        "first_seed": base_options.seed + 1,
        "training": {name: getattr(base_options, name) for name in (*SEARCHABLE, *_SHARED)},
    }


def trial_options(
    base_options: TrainingOptions,
    tuning_options: TuningOptions,
    parameters: Mapping[str, Any],
    save_steps: int | None = None,
) -> TrainingOptions:
    """Return ``base_options`` with the trial's parameters and length, evenly spaced evaluations and one checkpoint."""
    steps = tuning_options.max_steps
    quiet = _quiet(steps, evaluation_steps(tuning_options)) | {"save_steps": save_steps}
    return dataclasses.replace(base_options, **parameters, **quiet)


def trial_identity(
    export: ModelSource, splits: TokenSplits, base_options: TrainingOptions, space: SearchSpace
) -> dict[str, Any]:
    """Return what a trial's loss depends on beside the searched parameters: model, data and other options."""
    searched = {dimension.name for dimension in space.dimensions}
    names = [name for name in (*SEARCHABLE, *_SHARED) if name not in searched]
    training = {name: getattr(base_options, name) for name in names}
    return {"model": export.identity, "data": splits.fingerprint, "training": training}


def model_space(
    export: ModelSource,
    tuning: TuningOptions,
    base: TrainingOptions,
    *,
    kind: str | None = None,
    task: str | None = None,
) -> SearchSpace:
    """Return the space of a search for a model: ``tuning.space``, or the default space of its kind.

    Raises:
        ParameterError: If the space has a parameter that the model lacks, or the model cannot be built with a value.
    """
    from transformer_foundry.core.models import load_model

    if tuning.space:
        space = training_space(tuning.space, base, config=export.config)
        _check_model_dimensions(export, space)
        return space
    return training_space({}, base, kind=kind or load_model(export, task=task).contract.kind)


def _check_model_dimensions(export: ModelSource, space: SearchSpace) -> None:
    """Build the model with the extreme values of each dimension ``model.NAME``, before anything is trained.

    Raises:
        ParameterError: If it cannot be built with one of them.
    """
    from transformer_foundry.core.models import find_constructor_call

    for dimension in space.dimensions:
        if not dimension.name.startswith(MODEL_PREFIX):
            continue
        for value in dimension.extremes:
            try:
                find_constructor_call(export, {dimension.name.removeprefix(MODEL_PREFIX): value})
            except ModelError as err:
                raise ParameterError(
                    f"tuning.space.{dimension.name} reaches {value!r}, with which the model cannot be built: "
                    f"{err.problem}",
                    "Expected values with which the class in model.py can be built.",
                    f"Change tuning.space.{dimension.name} in conf/.",
                ) from err


def paused_checkpoints_in(folder: Path, limit_gib: float) -> FolderCheckpoints[Checkpoint]:
    """Return the checkpoints of paused trials in ``folder``.

    Args:
        folder: Where they are, one folder for each trial.
        limit_gib: Their total size in GiB.
    """
    from transformer_foundry.core.training import write_checkpoint

    return FolderCheckpoints(folder, limit_gib * _GIB, write_checkpoint, _read_paused)


def _read_paused(folder: Path) -> Checkpoint:
    from transformer_foundry.core.training import Checkpoint, newest_checkpoint, read_checkpoint

    generation = newest_checkpoint(folder)
    if generation is None:
        raise CheckpointError(f"The checkpoint in {folder} was never completed.")
    state = read_checkpoint(generation)
    return Checkpoint(state.step, state.epoch, "steps", dict(state.metrics), state)


def _reports(events: Iterator[Event], pause_at: int | None) -> Generator[TrialReport, None, None]:
    """Turn the events of ``fit`` into reports, the one at ``pause_at`` with the checkpoint that follows it."""
    from transformer_foundry.core.training import Checkpoint, Progress

    step = next(events).step
    held: tuple[int, float] | None = None
    try:
        for event in events:
            step = event.step
            if isinstance(event, Progress) and "eval/loss" in event.metrics:
                held = (step, event.metrics["eval/loss"])
                if step != pause_at:
                    yield held
                    held = None
            elif held is not None and isinstance(event, Checkpoint):
                yield (*held, event)
                held = None
    except TrainingError:
        # After the start of training this means that the loss diverged: the worst result.
        yield step + 1, math.nan
        return
    if held is not None:
        yield held


def _quiet(max_steps: int, eval_steps: int) -> dict[str, Any]:
    """Return options of a training of which only the validation loss is needed."""
    return {
        "max_steps": max_steps,
        "num_train_epochs": None,
        "max_hours": None,
        "eval_steps": eval_steps,
        "logging_steps": max_steps,
        "early_stopping_patience": None,
        "num_samples": 0,
        "save_steps": None,
        "save_minutes": None,
        "save_epochs": False,
        "use_best": False,
    }


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
