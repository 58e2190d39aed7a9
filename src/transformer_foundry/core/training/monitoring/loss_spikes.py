"""Whether a step may be taken: not if its loss or gradient is not finite, nor if its loss is far out of line."""

from __future__ import annotations

import math

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.training.checkpointing.state import Counters
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.train_step import StepStats

__all__ = [
    "GRADIENT_NOT_FINITE",
    "MAX_OVERFLOWS",
    "MAX_ROLLBACKS",
    "cannot_go_on",
    "detect_bad_step",
    "is_in_trouble",
    "overflows",
    "update_statistics",
]

MAX_OVERFLOWS = 40
"""Steps in a row that a scaler may skip. It begins at 2^16, doubles every 2000 steps and halves with each step that it
skips: even a scale grown to 2^24 has shrunk to 2^-16 by then, where only gradients beyond 4e9 leave the range of half
precision (65504). What is still not finite is so in the model."""

MAX_ROLLBACKS = 3
"""Returns to a checkpoint; the third trains with an eighth of the learning rate."""

GRADIENT_NOT_FINITE = "gradient is not finite"

_MEMORY = 0.98
"""Share of the old value in the running mean and variance of the loss: about 50 steps."""

_FIRST_JUDGED = 50
"""Steps before the first judgement: until then mean and variance are those of the initial fall."""

_SMALLEST_DEVIATION = 0.05
"""Nats. A loss that hardly varies, as in memorised data, may rise by less than this without being a spike."""

_DEVIATION_OF_A_TARGET = 2.0
"""Nats. The mean over few targets is noisy: a classifier that is sure of all rows but one in a hundred would have that
one skipped, for a variance of 50 steps has forgotten the last. Up to 3.5 % of the steps of a simulation were."""


def detect_bad_step(gradients: StepStats, counters: Counters, options: TrainingOptions) -> str | None:
    """Say in words why a step must be skipped; None if it may be taken.

    Args:
        gradients: What was measured of the step.
        counters: Mean and variance of the losses before it.
        options: ``spike_threshold``, in standard deviations.
    """
    loss = gradients.loss
    if not math.isfinite(loss):
        return "loss is not finite"
    if not math.isfinite(gradients.grad_norm):
        return GRADIENT_NOT_FINITE
    if not options.spike_threshold or counters.judged_steps < _FIRST_JUDGED or not gradients.target_count:
        return None
    by_chance = _DEVIATION_OF_A_TARGET / math.sqrt(gradients.target_count)
    deviation = max(math.sqrt(counters.loss_variance), _SMALLEST_DEVIATION, by_chance)
    excess = (loss - counters.loss_mean) / deviation
    if excess <= options.spike_threshold:
        return None
    return f"loss {loss:.3f} is {excess:.0f} standard deviations above the {counters.loss_mean:.3f} of the steps before"


def update_statistics(gradients: StepStats, fault: str | None, counters: Counters) -> None:
    """Count a step that was skipped because of ``fault``, or bring mean and variance up to date with one taken.

    The running moments are those of West (1979) with exponential weights; a step without targets has no part in them.
    """
    if fault is not None:
        counters.skipped_steps += 1
        counters.total_skipped_steps += 1
        return
    counters.skipped_steps = 0
    if not gradients.target_count:
        return
    counters.judged_steps += 1
    weight = max(1 - _MEMORY, 1 / counters.judged_steps)
    difference = gradients.loss - counters.loss_mean
    counters.loss_mean += weight * difference
    counters.loss_variance = (1 - weight) * (counters.loss_variance + weight * difference * difference)


def is_in_trouble(counters: Counters, options: TrainingOptions, total_steps: int, *, is_overflow: bool) -> bool:
    """Return whether too many steps in a row were skipped to go on as before.

    Args:
        counters: Skipped steps.
        options: ``max_skipped_steps``.
        total_steps: A shorter run is in trouble when all its steps were skipped.
        is_overflow: Whether the newest was skipped because a scaled gradient left the range of half precision.
    """
    limit = MAX_OVERFLOWS if is_overflow else options.max_skipped_steps
    return counters.skipped_steps >= min(limit, total_steps)


def cannot_go_on(fault: str, counters: Counters, options: TrainingOptions, learning_rate: float) -> TrainingError:
    """Return the error that ends a run which no return to a checkpoint has helped."""
    step, skipped = counters.step, counters.skipped_steps
    steps = f"step {step}" if skipped == 1 else f"steps {step - skipped + 1} to {step}"
    tried = f", and {counters.rollbacks} returns to a checkpoint did not help" if counters.rollbacks else ""
    return TrainingError(
        f"All of {steps} were skipped: the {fault} (learning rate {learning_rate:.3g}){tried}.",
        "A finite loss in line with the steps before was expected; the checkpoints of earlier steps are intact.",
        f"Lower training.learning_rate, for example to {options.learning_rate / 3:.1g}, in another run "
        "(run.name=NEW); if step 1 fails too, look for a division by zero or a log of zero in model.py.",
    )


def overflows(counters: Counters) -> TrainingError:
    """Return the error that ends a run whose gradients fit into half precision at no scale."""
    step, skipped = counters.step, counters.skipped_steps
    return TrainingError(
        f"The gradients of the last {skipped} steps ({step - skipped + 1} to {step}) are not finite in half "
        "precision: all these steps were skipped and no weight has changed in them.",
        f"The loss scaler was expected to find a scale at which gradients are finite within {MAX_OVERFLOWS} steps.",
        "Train in another run with training.precision=fp32 (run.name=NEW); if that fails too, look in model.py for "
        "what has no derivative, such as a square root of zero or a row of a softmax that is masked as a whole.",
    )
