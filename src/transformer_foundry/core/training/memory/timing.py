"""How fast a forward and a backward pass are."""

from __future__ import annotations

import time

import torch

from transformer_foundry.core.models.side_effects import quiet_model
from transformer_foundry.core.training.memory.simulation import Pass

__all__ = ["seconds_per_row"]


def seconds_per_row(planned: Pass, rows: int) -> tuple[float, float]:
    """Time a training pass without leaving a trace in the model.

    Returns:
        Seconds for each row, of the faster of two passes; seconds spent. The first pass loads kernels.
    """
    weights = [weight for weight in planned.adapter.parameters() if weight.requires_grad]
    device = weights[0].device
    batch = {name: tensor.to(device) for name, tensor in planned.make_batch(rows).items()}
    began = time.perf_counter()
    seconds = []
    with quiet_model(planned.adapter, is_exact=False):
        for _ in range(2):
            start = time.perf_counter()
            with planned.precision.autocast(), planned.savings.active():
                loss = planned.loss(batch).loss_sum
            torch.autograd.grad(loss, weights, allow_unused=True)
            del loss
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return min(seconds) / rows, time.perf_counter() - began
