"""The learning rate as a pure function of the step: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math

from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["learning_rate_at", "warmup_steps"]


def warmup_steps(options: TrainingOptions, total_steps: int) -> int:
    """Return the number of steps in which the learning rate rises."""
    return round(options.warmup_ratio * total_steps)


def learning_rate_at(step: int, total_steps: int, options: TrainingOptions) -> float:
    """Return the learning rate of an optimizer update.

    It rises linearly to ``options.learning_rate`` in the first ``warmup_steps`` updates, then follows half a cosine, a
    straight line or stays constant; cosine and line end at ``min_lr_ratio * learning_rate`` (Loshchilov and Hutter,
    SGDR, 2017, without restarts).

    Args:
        step: Updates already done, >= 0; steps beyond the end keep the last value.
        total_steps: Updates of the whole run, >= 1.
        options: Shape and height of the schedule.

    Example:
        >>> options = TrainingOptions(learning_rate=1.0, warmup_ratio=0.1, min_lr_ratio=0.0)
        >>> [round(learning_rate_at(step, 100, options), 3) for step in (0, 4, 9, 10, 55, 100)]
        [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = warmup_steps(options, total_steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    if options.lr_scheduler_type == "constant":
        return options.learning_rate
    done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    left = 1.0 - done if options.lr_scheduler_type == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return options.learning_rate * (options.min_lr_ratio + (1.0 - options.min_lr_ratio) * left)
