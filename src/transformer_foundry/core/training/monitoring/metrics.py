"""Loss and speed of the steps since the last record."""

from __future__ import annotations

import math
import sys
import time

import torch
from torch import nn

from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.training.checkpointing.state import Counters
from transformer_foundry.core.training.train_step import StepStats

__all__ = ["ThroughputMonitor", "TrainMetrics", "flops_per_token", "peak_flops", "used_memory_gb"]


class TrainMetrics:
    """Collects what steps measure; what must survive an interruption is kept in ``counters``."""

    def __init__(self) -> None:
        self._seconds, self._tokens, self._steps = 0.0, 0, 0

    def add(self, gradients: StepStats, counters: Counters, *, is_skipped: bool) -> None:
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
    """Measures of a model on a device.

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
    """Return the operations a second that the GPU can do in half precision; None where that is not known."""
    if precision.device.type != "cuda" or precision.dtype is torch.float32:
        return None
    name = torch.cuda.get_device_name(precision.device)
    return next((peak * 1e12 for known, peak in _PEAK_TERAFLOPS.items() if known in name), None)


def used_memory_gb(device: torch.device) -> float | None:
    """Return the most memory used so far in GB: of the GPU by torch, else of the machine by this process.

    Windows does not tell: None.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return None
    import resource

    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
