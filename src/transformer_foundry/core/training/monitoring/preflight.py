"""Checks before training starts, the number of its steps, and notes for the user."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

from torch import nn

from transformer_foundry.core.base.errors import ParameterError, TrainingError
from transformer_foundry.core.models.options import TEXT_TASKS
from transformer_foundry.core.training.checkpointing.state import LoopState
from transformer_foundry.core.training.monitoring.time_budget import TimeBudget
from transformer_foundry.core.training.monitoring.triggers import Triggers
from transformer_foundry.core.training.options import TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["plan_steps", "require_even_shares", "require_fit", "starting_notes"]


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


def plan_steps(options: TrainingOptions, batch_count: int, world_size: int = 1) -> int:
    """Return the optimizer updates of the whole run.

    Args:
        options: ``max_steps`` or ``num_train_epochs``.
        batch_count: Batches of one pass over the data.
        world_size: Processes that share an update; each takes ``gradient_accumulation_steps`` batches of it.
    """
    if options.num_train_epochs is None:
        return options.max_steps
    batches_per_step = options.gradient_accumulation_steps * world_size
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
