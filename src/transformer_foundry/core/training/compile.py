"""torch.compile, where it pays and where the translation computes what the model does."""

from __future__ import annotations

import logging
import math
import time
from typing import cast

import torch
from torch import nn

from transformer_foundry.core.data.dataloading.batches import move_batch
from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["PAYS_OFF_S", "compile_model", "time_of"]

_log = logging.getLogger(__name__)

COMPILE_SECONDS = 60.0
"""What compiling takes: 27 to 48 s were measured on a CPU with small models; more on a GPU with larger ones."""

PAYS_OFF_S = 10 * COMPILE_SECONDS
"""How long a run must last for it."""

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Relative difference of the loss that a translation may show: other kernels round in another order."""


def time_of(adapter: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision, passes: int) -> float:
    """Return the seconds of ``passes`` passes of the model as it is, forward and backward, of ``batch`` each.

    The second of two probes is timed; weights, buffers and random state are as before.
    """
    _probe(adapter, adapter, objective, batch, precision)
    began = time.perf_counter()
    _probe(adapter, adapter, objective, batch, precision)
    return passes * (time.perf_counter() - began)


def compile_model(
    adapter: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision
) -> tuple[nn.Module | None, str]:
    """Translate ``adapter`` with torch.compile and try it on ``batch``, forward and backward.

    Args:
        adapter: On the device of ``precision``; not changed.
        objective: Its loss.
        batch: On the CPU, as training will see.
        precision: Device and number format.

    Returns:
        The translation, which shares all weights, and a sentence for the user; None and the reason where it cannot be
        had or computes another loss.
    """
    expected = _probe(adapter, adapter, objective, batch, precision)
    began = time.perf_counter()
    try:
        compiled = cast(nn.Module, torch.compile(adapter))
        found = _probe(adapter, compiled, objective, batch, precision)
    except RuntimeError as err:  # dynamo, inductor and the C++ compiler report in classes of their own below it
        reason = str(err).strip().splitlines()[0]
        _log.debug("torch.compile failed", exc_info=True)
        return None, f"torch.compile cannot translate this model ({reason}); it trains as it is."
    if not math.isclose(found, expected, rel_tol=_TOLERANCE[precision.dtype], abs_tol=1e-6):
        return None, (
            f"torch.compile's translation computes a loss of {found:.6g}, the model {expected:.6g}; it trains as it is."
        )
    return compiled, f"Compiled with torch.compile in {time.perf_counter() - began:.0f} s."


def _probe(adapter: nn.Module, called: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision) -> float:
    """Return the summed loss of ``batch`` in eval mode after a backward pass that leaves no trace."""
    buffers = [(buffer, buffer.clone()) for buffer in adapter.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in adapter.parameters()]
    was_training = adapter.training
    try:
        # Without dropout: translation and model draw other random numbers.
        adapter.eval()
        with preserve_random(precision.device), precision.autocast():
            loss = objective.loss(called, move_batch(batch, precision.device)).loss_sum
            loss.backward()
            return float(loss.detach())
    finally:
        adapter.train(was_training)
        for buffer, value in buffers:
            buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
