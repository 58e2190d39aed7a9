"""Metrics of training: loss since the last record, speed, memory, use of the hardware."""

from __future__ import annotations

import math
import sys

import torch
from torch import nn

from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.training.checkpointing.state import LossWindow
from transformer_foundry.core.training.train_step import StepStats

__all__ = ["ThroughputMonitor", "TrainMetrics", "flops_per_token", "peak_flops", "used_memory_gb"]


class TrainMetrics:
    """Collects loss and speed of the steps since the last record.

    Args:
        window: The losses, which a checkpoint keeps.
    """

    def __init__(self, window: LossWindow) -> None:
        self.window = window
        self._seconds, self._tokens, self._steps = 0.0, 0, 0

    def add(self, stats: StepStats, *, is_skipped: bool) -> None:
        """Add a step; the loss of a skipped one does not count."""
        self.window.grad_norm = stats.grad_norm
        self.window.tokens_seen += stats.token_count
        self._tokens += stats.token_count
        self._steps += 1
        if not is_skipped:
            self.window.losses.append(stats.loss_sum)
            self.window.targets.append(stats.target_count)

    def add_seconds(self, seconds: float) -> None:
        """Add the duration of a step."""
        self._seconds += seconds

    def compute(self, total_skipped_steps: int) -> dict[str, float]:
        """Return loss (mean over the targets since the last record), norm of the newest gradient, tokens and speed.

        There is no loss when all steps since the last record were skipped. The speed is measured anew afterwards; the
        losses stay until ``clear_window``.
        """
        window, seconds, steps = self.window, max(self._seconds, 1e-9), self._steps
        targets = sum(window.targets)
        found = {"train/loss": math.fsum(window.losses) / targets} if targets else {}
        found |= {
            "train/grad_norm": window.grad_norm,
            "train/tokens_seen": float(window.tokens_seen),
            "train/skipped_steps": float(total_skipped_steps),
            "train/tokens_per_second": self._tokens / seconds,
            "train/step_seconds": seconds / steps if steps else 0.0,
        }
        self._seconds, self._tokens, self._steps = 0.0, 0, 0
        return found

    def clear_window(self) -> None:
        """Forget the losses, once they are recorded."""
        self.window.losses.clear()
        self.window.targets.clear()


_PEAK_TERAFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "T4": 65.0,
    "V100": 125.0,
}
"""Dense half-precision peak of the tensor cores, from NVIDIA's data sheets; longer names first."""


class ThroughputMonitor:
    """Measures memory and use of the hardware.

    Args:
        model: The model.
        precision: Device and number format.
    """

    def __init__(self, model: nn.Module, precision: Precision) -> None:
        self._flops_per_token = flops_per_token(model)
        self._peak = peak_flops(precision)
        self._device = precision.device

    def metrics(self, tokens_per_second: float) -> dict[str, float]:
        """Return ``train/memory_gb`` and ``train/mfu``, the latter where the peak of the hardware is known."""
        memory = used_memory_gb(self._device)
        found = {} if memory is None else {"train/memory_gb": memory}
        if self._peak is not None:
            found["train/mfu"] = tokens_per_second * self._flops_per_token / self._peak
        return found


def flops_per_token(model: nn.Module) -> float:
    """Return the floating point operations of one trained token: 6 for each weight of a matrix product.

    Forward and backward pass take 2 and 4 (Kaplan et al. 2020, 2.1). Embedding tables only count where they are the
    head too; the products of queries and keys are left out, as is usual below a few thousand tokens.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    heads = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    unused = embeddings - heads
    return 6.0 * sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in unused)


def peak_flops(precision: Precision) -> float | None:
    """Return the peak of the GPU in half precision, operations per second; None where it is unknown."""
    if precision.device.type != "cuda" or precision.dtype is torch.float32:
        return None
    name = torch.cuda.get_device_name(precision.device)
    return next((peak * 1e12 for known, peak in _PEAK_TERAFLOPS.items() if known in name), None)


def used_memory_gb(device: torch.device) -> float | None:
    """Return the most memory used so far in GB: of the GPU by torch, else of the machine by this process.

    None on Windows, where it is unknown.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return None
    import resource

    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
