"""torch.compile, where it saves time and the compiled model computes the same loss."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.data.dataloading.batches import move_batch
from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["Compilation", "compile_if_worthwhile", "compile_model"]

_log = logging.getLogger(__name__)

COMPILE_SECONDS = 60.0
"""Duration of compiling: 27 to 48 s were measured on a CPU with small models; more on a GPU with larger ones."""

WORTHWHILE_S = 10 * COMPILE_SECONDS
"""Shortest run that is compiled with ``training.compile=auto``."""

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest relative difference of the loss of a compiled model: other kernels round in another order."""


@dataclass(frozen=True)
class Compilation:
    """The outcome of ``compile_if_worthwhile``.

    Attributes:
        model: The compiled model; None if the model trains as it is.
        is_compiled: The decision for all sessions of the run; None if compiling is off and always was.
        notes: Sentences for the user.
    """

    model: nn.Module | None
    is_compiled: bool | None
    notes: tuple[str, ...] = ()


def compile_if_worthwhile(
    adapter: nn.Module,
    objective: TaskLoss,
    batch: Batch,
    precision: Precision,
    *,
    mode: str,
    decided: bool | None,
    changes_passes: bool,
    passes_left: int,
    left_s: float | None,
) -> Compilation:
    """Compile a model if that is wanted; what the first session of a run decided holds for all of them.

    Args:
        adapter: The model, on the device of ``precision``.
        objective: Its loss.
        batch: A micro-batch on the CPU.
        precision: Device and number format.
        mode: ``training.compile``: ``off``, ``on`` or ``auto``.
        decided: Whether an earlier session compiled the model; None if none decided.
        changes_passes: Whether memory savings change the model in each pass, which torch.compile cannot follow.
        passes_left: Forward passes that the run will take.
        left_s: Seconds that the run may still take; None where its steps are given instead.
    """
    if mode == "off" or decided is False:
        return Compilation(None, decided)
    if changes_passes:
        note = "Not compiled: what saves memory changes the model in each pass, which torch.compile cannot follow."
        return Compilation(None, False, (note,))
    if mode == "auto" and decided is None:
        seconds = _passes_s(adapter, objective, batch, precision, passes_left) if left_s is None else left_s
        if seconds < WORTHWHILE_S:
            note = "Not compiled: the run is shorter than ten times what torch.compile takes."
            return Compilation(None, False, (note,))
    compiled, note = compile_model(adapter, objective, batch, precision)
    return Compilation(compiled, compiled is not None, (note,))


def compile_model(
    adapter: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision
) -> tuple[nn.Module | None, str]:
    """Compile ``adapter`` with torch.compile and try it on ``batch``, forward and backward.

    Args:
        adapter: On the device of ``precision``; not changed.
        objective: Its loss.
        batch: A micro-batch on the CPU.
        precision: Device and number format.

    Returns:
        The compiled model, which shares all weights, and a sentence for the user; None and the reason if compiling
        fails or the compiled model computes another loss.
    """
    expected = _probe(adapter, adapter, objective, batch, precision)
    start = time.perf_counter()
    try:
        compiled = cast(nn.Module, torch.compile(adapter))
        found = _probe(adapter, compiled, objective, batch, precision)
    except RuntimeError as err:  # the errors of dynamo, inductor and the C++ compiler are subclasses of it
        reason = error_message(err, first_line=True)
        _log.debug("torch.compile failed", exc_info=True)
        return None, f"torch.compile cannot compile this model ({reason}); it trains as it is."
    if not math.isclose(found, expected, rel_tol=_TOLERANCE[precision.dtype], abs_tol=1e-6):
        return None, (
            f"The compiled model computes a loss of {found:.6g}, the model itself {expected:.6g}; it trains as it is."
        )
    return compiled, f"Compiled with torch.compile in {time.perf_counter() - start:.0f} s."


def _passes_s(adapter: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision, passes: int) -> float:
    """Estimate the seconds of ``passes`` passes without compiling; the second of two is timed."""
    _probe(adapter, adapter, objective, batch, precision)
    start = time.perf_counter()
    _probe(adapter, adapter, objective, batch, precision)
    return passes * (time.perf_counter() - start)


def _probe(adapter: nn.Module, called: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision) -> float:
    """Return the summed loss of ``batch`` in eval mode after a backward pass; model and random state are restored."""
    buffers = [(buffer, buffer.clone()) for buffer in adapter.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in adapter.parameters()]
    was_training = adapter.training
    try:
        # Without dropout: the compiled model draws other random numbers.
        adapter.eval()
        with preserve_random(precision.device), precision.autocast():
            loss = objective.loss(called, move_batch(batch, precision.device)).trained
            torch.autograd.backward(loss)
            return float(loss.detach())
    finally:
        adapter.train(was_training)
        for buffer, value in buffers:
            buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
