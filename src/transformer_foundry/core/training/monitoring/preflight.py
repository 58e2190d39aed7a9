"""Checks before training starts, the number of its steps, and notes for the user."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from transformer_foundry.core.base.errors import ParameterError, TrainingError
from transformer_foundry.core.models.options import TEXT_TASKS
from transformer_foundry.core.training.checkpointing.state import LoopState, StepBatch
from transformer_foundry.core.training.monitoring.time_budget import TimeBudget
from transformer_foundry.core.training.monitoring.triggers import Triggers
from transformer_foundry.core.training.options import TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = [
    "keep_step_batch",
    "plan_steps",
    "processes_note",
    "require_even_shares",
    "require_fit",
    "shared_values",
    "starting_notes",
]


def require_fit(adapter: nn.Module, splits: TokenSplits) -> None:
    """Raise an error if the data were prepared for another kind of model.

    A module without a contract must take ``input_ids`` and ``attention_mask``; its output is taken for logits.

    Raises:
        TrainingError: If the tasks differ, the data have more tokens, longer rows or more classes than the model takes,
            or a module without a contract takes other arguments.
    """
    contract = getattr(adapter, "contract", None)
    if contract is None:
        _require_arguments(adapter)
        return
    # The labels decide what a model of texts learns, unless its task is set.
    is_open = contract.task == "sequence_classification" and splits.task in TEXT_TASKS
    if contract.task != splits.task and not is_open:
        raise TrainingError(
            f"The data were prepared for {splits.task}, but the task of the model is {contract.task}.",
            "Model and data must have the same task.",
            "Run the data_engineering pipeline again, or set model.task to the task of the data.",
        )
    if splits.vocab_size > contract.vocab_size:
        raise TrainingError(
            f"The data have {splits.vocab_size} token ids, but the model's vocabulary has {contract.vocab_size}.",
            "The tokenizer must not have more ids than the model has embeddings.",
            "Run the data_engineering pipeline again with this model.",
        )
    if contract.max_length is not None and splits.max_length > contract.max_length:
        raise TrainingError(
            f"The data have rows of up to {splits.max_length} tokens, but the model takes at most "
            f"{contract.max_length}.",
            "The model must take rows of the length of the data.",
            f"Run the data_engineering pipeline again with this model, or with data.max_length={contract.max_length}.",
        )
    classes = len(splits.label_names or ())
    if classes > contract.output_size:
        raise TrainingError(
            f"The data have {classes} classes, but the model has {contract.output_size} outputs.",
            "The model needs an output for each class of the data.",
            f"Give the last layer of the model {classes} outputs, or use data that fit it.",
        )
    if splits.task == "regression" and contract.output_size != 1:
        raise TrainingError(
            f"The data have a number for each text, but the model has {contract.output_size} outputs.",
            "The model needs one output for a number.",
            "Export the model with one output, or run the data_engineering pipeline again with this model.",
        )


def _require_arguments(module: nn.Module) -> None:
    parameters = inspect.signature(module.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not takes_any and not {"input_ids", "attention_mask"} <= parameters.keys():
        raise TrainingError(
            f"The forward of {type(module).__name__} takes {', '.join(parameters) or 'nothing'}.",
            "A module that takes input_ids and attention_mask and returns logits was expected.",
            "Adapt it first: fit(core.models.adapt(model), ...).",
        )


def plan_steps(options: TrainingOptions, batch_count: int, batches_per_step: int) -> int:
    """Return the optimizer updates of the whole run.

    Args:
        options: ``max_steps`` or ``num_train_epochs``.
        batch_count: Batches of one pass over the data.
        batches_per_step: Batches of an update, over all processes.
    """
    if options.num_train_epochs is None:
        return options.max_steps
    return max(1, math.ceil(options.num_train_epochs * batch_count / batches_per_step))


def require_even_shares(options: TrainingOptions, world_size: int) -> None:
    """Raise an error if the processes cannot share the total batch evenly.

    Raises:
        ParameterError: If it is not a multiple of their number.
    """
    total = options.total_train_batch_size
    if total is not None and total % world_size:
        raise ParameterError(
            f"training.total_train_batch_size is {total}, which {world_size} processes cannot share evenly.",
            "A multiple of the number of processes was expected.",
            f"Set training.total_train_batch_size={max(1, total // world_size) * world_size}.",
        )


def keep_step_batch(
    options: TrainingOptions, world_size: int, resume_from: TrainingState | None, row_count: int
) -> StepBatch:
    """Return the rows of a step: those that the run began with, however many processes share them now.

    Args:
        options: Batch sizes.
        world_size: Processes of this session.
        resume_from: Where an earlier session stopped. A fork with other batch sizes begins anew.
        row_count: Rows of one pass over the data.

    Raises:
        ParameterError: If there are more processes than rows.
    """
    found = StepBatch(options.rows_per_batch(), options.batches_per_step(world_size), world_size)
    if resume_from is None:
        require_even_shares(options, world_size)
    elif not resume_from.forked_from or _has_same_batches(resume_from, options):
        earlier = resume_from.step_batch
        if earlier.rows_per_batch is None:
            earlier = _step_batch_of_earlier_version(resume_from, options, world_size, row_count)
        found = StepBatch(earlier.rows_per_batch, earlier.batches_per_step, world_size)
    rows = found.rows_per_step
    if rows < world_size:
        raise ParameterError(
            f"A step of this run has {rows} rows, which {world_size} processes cannot share.",
            "Expected at least one row for each process.",
            f"Start at most {rows} processes (torchrun --nproc-per-node), or another run with run.name=NEW.",
        )
    return found


def shared_values(options: TrainingOptions, identity: Mapping[str, str]) -> dict[str, str]:
    """Return what processes that train together must have in common, by name.

    How each keeps within its memory is its own matter: their devices may differ.

    Args:
        options: How to train.
        identity: Digests by name of model, data and tokenizer.
    """
    own = {"memory_budget_gb", "chunked_loss", "activation_checkpointing", "compile"}
    values = {name: value for name, value in dataclasses.asdict(options).items() if name not in own}
    return {
        **{f"the {name.replace('_', ' ')}": digest for name, digest in identity.items()},
        **{f"training.{name}": repr(value) for name, value in values.items()},
        "torch": torch.__version__,
    }


def processes_note(resume_from: TrainingState, step_batch: StepBatch) -> list[str]:
    """Return a note if another number of processes than before share the steps."""
    before, now = resume_from.step_batch.world_size, step_batch.world_size
    if before is None or before == now or resume_from.forked_from:
        return []
    return [f"Processes: {before} before, {now} now. A step keeps its {step_batch.rows_per_step} rows."]


def _has_same_batches(state: TrainingState, options: TrainingOptions) -> bool:
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "total_train_batch_size")
    return all(state.options.get(name) == getattr(options, name) for name in names)


def _step_batch_of_earlier_version(
    state: TrainingState, options: TrainingOptions, world_size: int, row_count: int
) -> StepBatch:
    """Return the batches of a checkpoint that does not say how many processes wrote it, as its counters show them."""
    total, loop = options.total_train_batch_size, state.loop
    if total is not None:  # each process took an equal share of the rows as its batch
        shares = [total // count for count in range(1, total + 1) if total % count == 0]
        rows = next((rows for rows in shares if math.ceil(row_count / rows) == state.batches_per_epoch), total)
        return StepBatch(rows, total // rows)
    accumulation = options.gradient_accumulation_steps
    # A return to a checkpoint sets the step back, not the position.
    if loop.step and not loop.rollbacks and loop.position % (loop.step * accumulation) == 0:
        return StepBatch(options.rows_per_batch(), loop.position // loop.step)
    return StepBatch(options.rows_per_batch(), accumulation * world_size)


def starting_notes(triggers: Triggers, loop: LoopState, time_budget: TimeBudget) -> list[str]:
    """Return notes for the user about a session that starts with ``loop``, a sentence or two each."""
    notes, max_hours, total_steps = [], triggers.options.max_hours, time_budget.total_steps
    if max_hours is not None and not time_budget.has_plan:
        notes.append(
            f"training.max_hours is {max_hours:g}: the number of steps is planned from the speed of the first ones."
        )
    if not triggers.has_validation:
        notes.append("The validation split is empty: there is no evaluation, no early stopping, no best checkpoint.")
    if not triggers.is_finished(loop, total_steps):
        return notes
    if triggers.is_stopped_early(loop):
        notes.append(
            f"Nothing to train: the run stopped early at step {loop.step}; "
            "raise training.early_stopping_patience to continue."
        )
    else:
        length = "max_steps" if max_hours is None else "max_hours"
        reached = f"step {loop.step} of {total_steps} is reached"
        if loop.step > total_steps:
            reached = f"the run is at step {loop.step}, after the {total_steps} that are asked for"
        notes.append(f"Nothing to train: {reached}; raise training.{length} to continue.")
    return notes
