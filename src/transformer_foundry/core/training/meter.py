"""Loss and speed of the steps since the last record, measured without waiting for the device at each step."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from transformer_foundry.core.training.state import Counters
from transformer_foundry.core.training.update import Update

__all__ = ["Meter"]


class Meter:
    """Collects what updates measure; what must survive an interruption is kept in ``counters``.

    Args:
        counters: Whose step, losses, targets and tokens are brought up to date.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._on_device: list[Tensor] = []
        self._restart()

    def add(self, update: Update) -> None:
        """Note an update that ``counters.step`` does not count yet."""
        self._on_device.append(torch.stack([update.loss_sum, update.grad_norm]))
        self._counters.window_targets.append(update.target_count)
        self._counters.tokens_seen += update.token_count
        self._tokens += update.token_count
        self._steps += 1

    def add_time(self, began: float) -> None:
        """Note that training, and nothing else, ran since ``began``, a value of ``time.perf_counter``."""
        self._seconds += time.perf_counter() - began

    def fetch(self, *, may_overflow: bool = False) -> tuple[int, str] | None:
        """Bring the losses to the CPU: the one place that waits for the device.

        Args:
            may_overflow: Whether a gradient that is not finite is harmless, because a scaler skips such a step.

        Returns:
            The first step that was not finite and whether it was its ``loss`` or its ``gradient``; None if all is well.
        """
        if not self._on_device:
            return None
        rows = torch.stack(self._on_device).tolist()
        self._on_device.clear()
        self._counters.window_losses.extend(loss_sum for loss_sum, _ in rows)
        self._counters.grad_norm = rows[-1][1]
        first_step = self._counters.step - len(rows) + 1
        for step, (loss_sum, grad_norm) in enumerate(rows, first_step):
            if not math.isfinite(loss_sum):
                return step, "loss"
            if not math.isfinite(grad_norm) and not may_overflow:
                return step, "gradient"
            self._counters.skipped_steps = 0 if math.isfinite(grad_norm) else self._counters.skipped_steps + 1
        return None

    def metrics(self) -> dict[str, float]:
        """Return loss (mean over the targets since the last record), norm of the newest gradient, tokens and speed."""
        counters, seconds, steps = self._counters, max(self._seconds, 1e-9), self._steps
        found = {
            "train/loss": math.fsum(counters.window_losses) / max(1, sum(counters.window_targets)),
            "train/grad_norm": counters.grad_norm,
            "train/tokens_seen": float(counters.tokens_seen),
            "train/tokens_per_second": self._tokens / seconds,
            "train/step_seconds": seconds / steps if steps else 0.0,
        }
        self._restart()
        return found

    def _restart(self) -> None:
        self._seconds, self._tokens, self._steps = 0.0, 0, 0
