"""The learning rate as a pure function of the step: there is no state to save."""

from __future__ import annotations

from transformer_foundry.core.training.optim.schedules import SCHEDULES, Place
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["learning_rate_at"]


def learning_rate_at(step: float, total_steps: int, options: TrainingOptions) -> float:
    """Return the learning rate of an optimizer update.

    It rises linearly to ``options.learning_rate`` in the first ``warmup_ratio`` of all updates and then follows the
    schedule ``lr_scheduler_type`` (``schedules.SCHEDULES``).

    Args:
        step: Updates already done, >= 0; steps beyond the end keep the last value. Where the length of a run is planned
            anew, a place on the schedule between two steps (``time_budget.schedule_step``).
        total_steps: Updates of the whole run, >= 1.
        options: Shape and height of the schedule.

    Example:
        >>> options = TrainingOptions(learning_rate=1.0, warmup_ratio=0.1, min_lr_ratio=0.0)
        >>> [round(learning_rate_at(step, 100, options), 3) for step in (0, 4, 9, 10, 55, 100)]
        [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warmup_steps = round(options.warmup_ratio * total_steps)
    if step < warmup_steps:
        return options.learning_rate * (step + 1) / warmup_steps
    place = Place(step, warmup_steps, total_steps, options.decay_ratio, options.min_lr_ratio)
    return options.learning_rate * SCHEDULES[options.lr_scheduler_type](place)
