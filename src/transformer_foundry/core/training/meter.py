"""Loss and speed of the steps since the last record."""

from __future__ import annotations

import math
import time

from transformer_foundry.core.training.state import Counters
from transformer_foundry.core.training.update import Gradients

__all__ = ["Meter"]


class Meter:
    """Collects what steps measure; what must survive an interruption is kept in ``counters``."""

    def __init__(self) -> None:
        self._seconds, self._tokens, self._steps = 0.0, 0, 0

    def add(self, gradients: Gradients, counters: Counters, *, is_skipped: bool) -> None:
        """Note a step; the loss of one that is skipped does not count."""
        counters.grad_norm = gradients.grad_norm
        counters.tokens_seen += gradients.token_count
        self._tokens += gradients.token_count
        self._steps += 1
        if not is_skipped:
            counters.window_losses.append(gradients.loss_sum)
            counters.window_targets.append(gradients.target_count)

    def add_time(self, began: float) -> None:
        """Note that training, and nothing else, ran since ``began``, a value of ``time.perf_counter``."""
        self._seconds += time.perf_counter() - began

    def metrics(self, counters: Counters) -> dict[str, float]:
        """Return loss (mean over the targets since the last record), norm of the newest gradient, tokens and speed.

        There is no loss when all steps since the last record were skipped.
        """
        targets, seconds, steps = sum(counters.window_targets), max(self._seconds, 1e-9), self._steps
        found = {"train/loss": math.fsum(counters.window_losses) / targets} if targets else {}
        found |= {
            "train/grad_norm": counters.grad_norm,
            "train/tokens_seen": float(counters.tokens_seen),
            "train/skipped_steps": float(counters.total_skipped_steps),
            "train/tokens_per_second": self._tokens / seconds,
            "train/step_seconds": seconds / steps if steps else 0.0,
        }
        self._seconds, self._tokens, self._steps = 0.0, 0, 0
        return found
