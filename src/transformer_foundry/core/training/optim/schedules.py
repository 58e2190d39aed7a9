"""``SCHEDULES``, the learning-rate schedules: what follows the warm-up.

To add one:

1. Write a function of ``Place`` here and add it to ``SCHEDULES``: it then is a choice of ``lr_scheduler_type``.
   It begins at 1, never rises, and stays above 0 before the last update. It falls no steeper than half a cosine from
   the warm-up to the end; if its fall is shorter, say so in ``test_the_learning_rate_has_no_jump`` (next step).
2. Add its values to ``FORMS`` of ``tests/core/training/optim/test_learning_rate.py``, and name it in
   ``docs/training.md``.
3. If it has an option of its own, that is a field of ``Place``, set in ``learning_rate_at`` of the module beside; a
   field of ``TrainingOptions`` whose help names the schedule; and a value in ``CHANGES`` of
   ``tests/core/training/checkpointing/test_compatibility.py``: the option changes the weights. If it ignores one of the
   options here, say so in the help of that option. ``_USED_BY`` of ``core/training/options.py`` lists both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["SCHEDULES", "Place"]


@dataclass(frozen=True)
class Place:
    """An update after the warm-up, and what a schedule may depend on.

    Attributes:
        step: Updates already done, >= ``warmup_steps``, maybe more than ``total_steps``; a fraction where the length of
            a run is planned anew (``time_budget.schedule_step``).
        warmup_steps: Updates of the warm-up, >= 0.
        total_steps: Updates of the whole run, >= 1.
        decay_ratio: Option ``training.decay_ratio``.
        min_lr_ratio: Option ``training.min_lr_ratio``.
    """

    step: float
    warmup_steps: int
    total_steps: int
    decay_ratio: float
    min_lr_ratio: float

    def share_done(self, start: int | None = None) -> float:
        """Return the share of the updates from ``start`` to the last one that is done; None is the warm-up's end."""
        start = self.warmup_steps if start is None else start
        return min(1.0, max(0, self.step - start) / max(1, self.total_steps - start))

    def fall_to_minimum(self, left: float) -> float:
        """Return the share of the highest rate when ``left`` of the way from it down to ``min_lr_ratio`` is left."""
        return self.min_lr_ratio + (1.0 - self.min_lr_ratio) * left


def _cosine(place: Place) -> float:
    """Half a cosine (Loshchilov and Hutter, SGDR, 2017, without restarts)."""
    return place.fall_to_minimum(0.5 * (1.0 + math.cos(math.pi * place.share_done())))


def _linear(place: Place) -> float:
    """A straight line."""
    return place.fall_to_minimum(1.0 - place.share_done())


def _constant(place: Place) -> float:
    """No fall, so ``min_lr_ratio`` has no effect."""
    del place
    return 1.0


def _warmup_stable_decay(place: Place) -> float:
    """Constant until the last ``decay_ratio`` of all updates, then a straight line (MiniCPM, Hu et al. 2024)."""
    decay_steps = max(1, round(place.decay_ratio * place.total_steps))
    return place.fall_to_minimum(1.0 - place.share_done(max(place.warmup_steps, place.total_steps - decay_steps)))


SCHEDULES: Mapping[str, Callable[[Place], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "warmup_stable_decay": _warmup_stable_decay,
}
"""Name of a schedule -> its learning rate as a share of the highest one, in [0, 1]."""
