"""The learning-rate schedules as pure functions of the step: there is no state to save.

To add a schedule, add its fall to ``_FALLS`` and its name to the choices of ``TrainingOptions.lr_scheduler_type``; one
that first stays constant also needs its start in ``learning_rate_at``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["learning_rate_at"]

_FALLS: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "warmup_stable_decay": lambda done: 1.0 - done,
}
"""Schedule -> share of the fall that is left, from the share that is done; ``constant`` has no fall."""


def learning_rate_at(step: float, total_steps: int, options: TrainingOptions) -> float:
    """Return the learning rate of an optimizer update.

    It rises linearly to ``options.learning_rate`` in the first ``warmup_ratio`` of all updates and then follows half a
    cosine (Loshchilov and Hutter, SGDR, 2017, without restarts), a straight line, stays constant, or stays constant
    until the last ``decay_ratio`` of all updates and falls in a straight line (MiniCPM, Hu et al. 2024). All but the
    constant one end at ``min_lr_ratio * learning_rate``.

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
    warmup = round(options.warmup_ratio * total_steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    if options.lr_scheduler_type == "constant":
        return options.learning_rate
    start = warmup
    if options.lr_scheduler_type == "warmup_stable_decay":
        start = max(warmup, total_steps - max(1, round(options.decay_ratio * total_steps)))
    done = min(1.0, max(0, step - start) / max(1, total_steps - start))
    left = _FALLS[options.lr_scheduler_type](done)
    return options.learning_rate * (options.min_lr_ratio + (1.0 - options.min_lr_ratio) * left)
