"""Detection of bad steps: a loss or gradient that is not finite, or a loss far above the mean of the steps before."""

from __future__ import annotations

import math

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.training.checkpointing.state import LossStatistics
from transformer_foundry.core.training.train_step import StepStats

__all__ = [
    "GRADIENT_NOT_FINITE",
    "MAX_OVERFLOWS",
    "MAX_ROLLBACKS",
    "detect_bad_step",
    "overflow_error",
    "restore_statistics",
    "spike_error",
    "update_statistics",
]

MAX_OVERFLOWS = 40
"""Steps in a row that a gradient scaler may skip. Its scale starts at 2^16, doubles every 2000 steps and halves with
each skipped step: even a scale of 2^24 has shrunk to 2^-16 by then, where only gradients above 4e9 leave the range of
half precision (65504). A gradient that is still not finite is so in the model."""

MAX_ROLLBACKS = 3
"""Returns to a checkpoint; the third trains with an eighth of the learning rate."""

GRADIENT_NOT_FINITE = "gradient is not finite"

_DECAY = 0.98
"""Share of the old value in the running mean and variance of the loss: about 50 steps."""

_WARMUP_STEPS = 50
"""Steps without detection: until then mean and variance are those of the initial fall of the loss."""

_MIN_DEVIATION = 0.05
"""Nats. A loss that hardly varies, as on memorized data, may rise by less than this without being a spike."""

_DEVIATION_PER_TARGET = 2.0
"""Nats. The mean over few targets is noisy: of a classifier that is sure of all rows but one in a hundred, that one
would be skipped, because a variance over 50 steps has forgotten the previous one. Without this term up to 3.5 % of the
steps of a simulation were skipped."""


def detect_bad_step(stats: StepStats, statistics: LossStatistics, spike_threshold: float) -> str | None:
    """Return why a step must be skipped, in words; None if it may be taken.

    Args:
        stats: Loss and gradient norm of the step.
        statistics: Mean and variance of the losses before it.
        spike_threshold: Standard deviations above the mean at which a loss is a spike; 0 detects no spikes.
    """
    loss = stats.loss
    if not math.isfinite(loss):
        return "loss is not finite"
    if not math.isfinite(stats.grad_norm):
        return GRADIENT_NOT_FINITE
    if not spike_threshold or statistics.count < _WARMUP_STEPS or not stats.target_count:
        return None
    by_chance = _DEVIATION_PER_TARGET / math.sqrt(stats.target_count)
    deviation = max(math.sqrt(statistics.variance), _MIN_DEVIATION, by_chance)
    excess = (loss - statistics.mean) / deviation
    if excess <= spike_threshold:
        return None
    return f"loss {loss:.3f} is {excess:.0f} standard deviations above the {statistics.mean:.3f} of the steps before"


def update_statistics(stats: StepStats, fault: str | None, statistics: LossStatistics) -> None:
    """Count a step that was skipped because of ``fault``, or add a step that was taken to mean and variance.

    The running moments are those of West (1979) with exponential weights; steps without targets are left out.
    """
    if fault is not None:
        statistics.skipped_steps += 1
        statistics.total_skipped_steps += 1
        return
    statistics.skipped_steps = 0
    if not stats.target_count:
        return
    statistics.count += 1
    weight = max(1 - _DECAY, 1 / statistics.count)
    difference = stats.loss - statistics.mean
    statistics.mean += weight * difference
    statistics.variance = (1 - weight) * (statistics.variance + weight * difference * difference)


def restore_statistics(statistics: LossStatistics, saved: LossStatistics) -> None:
    """Go back to the ``saved`` statistics of a checkpoint, but keep the number of all skipped steps."""
    total = statistics.total_skipped_steps
    statistics.load_state_dict(saved.state_dict())
    statistics.total_skipped_steps = total


def spike_error(
    fault: str, step: int, skipped_steps: int, *, rollbacks: int, learning_rate: float, peak_learning_rate: float
) -> TrainingError:
    """Return the error that ends a run when no return to a checkpoint has helped."""
    steps = f"step {step}" if skipped_steps == 1 else f"steps {step - skipped_steps + 1} to {step}"
    tried = f", and {rollbacks} returns to a checkpoint did not help" if rollbacks else ""
    return TrainingError(
        f"All of {steps} were skipped: the {fault} (learning rate {learning_rate:.3g}){tried}.",
        "A finite loss in line with the steps before was expected; the checkpoints of earlier steps are intact.",
        f"Lower training.learning_rate, for example to {peak_learning_rate / 3:.1g}, in another run "
        "(run.name=NEW); if step 1 fails too, look for a division by zero or a log of zero in model.py.",
    )


def overflow_error(step: int, skipped_steps: int) -> TrainingError:
    """Return the error that ends a run whose gradients leave the range of half precision at every scale."""
    return TrainingError(
        f"The gradients of the last {skipped_steps} steps ({step - skipped_steps + 1} to {step}) are not finite in "
        "half precision: all these steps were skipped and no weight has changed in them.",
        f"The loss scaler was expected to find a scale at which gradients are finite within {MAX_OVERFLOWS} steps.",
        "Train in another run with training.precision=fp32 (run.name=NEW); if that fails too, look in model.py for "
        "an operation without a derivative, such as a square root of zero or a softmax over a row that is masked as a "
        "whole.",
    )
