"""torch.compile of model and loss as one function, where it saves time and gives the same loss."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.data.dataloading.batches import move_batch
from transformer_foundry.core.models.losses import Batch, LossParts, TaskLoss
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["Compilation", "LossFunction", "compile_if_worthwhile", "compile_loss"]

_log = logging.getLogger(__name__)

LossFunction = Callable[[Batch], LossParts]
"""Computes the training loss of a batch on the device of the model: the forward pass and the loss."""

COMPILE_SECONDS = 60.0
"""Duration of compiling: 27 to 48 s were measured on a CPU with small models; more on a GPU with larger ones."""

WORTHWHILE_S = 10 * COMPILE_SECONDS
"""Shortest run that is compiled with ``training.compile=auto``."""

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest relative difference of the compiled loss: other kernels round in another order."""

_TIMED_PASSES = 3
"""Passes of which the fastest counts."""


@dataclass(frozen=True)
class Compilation:
    """The outcome of ``compile_if_worthwhile``.

    Attributes:
        loss: The compiled forward pass and loss; None if they run as they are.
        is_compiled: The decision for all sessions of the run; None if compiling is off and always was.
        notes: Sentences for the user.
    """

    loss: LossFunction | None
    is_compiled: bool | None
    notes: tuple[str, ...] = ()


class _Trial(NamedTuple):
    """What is compiled, and what it is tried on.

    Attributes:
        adapter: The model, on the device of ``precision``.
        loss: Its training loss.
        batch: A micro-batch, on the device.
        precision: Device and number format.
    """

    adapter: nn.Module
    loss: LossFunction
    batch: Batch
    precision: Precision


def compile_if_worthwhile(
    adapter: nn.Module,
    loss: LossFunction,
    batch: Batch,
    precision: Precision,
    *,
    mode: str,
    decided: bool | None,
    changes_passes: bool,
    passes_left: int,
    left_s: float | None,
) -> Compilation:
    """Compile forward pass and loss if that is wanted; what the first session of a run decided holds for all of them.

    Args:
        adapter: The model, on the device of ``precision``.
        loss: Computes its training loss.
        batch: A micro-batch on the CPU.
        precision: Device and number format.
        mode: ``training.compile``: ``off``, ``on``, or ``auto``, which also drops what is no faster.
        decided: Whether an earlier session compiled; None if none decided.
        changes_passes: Whether memory savings change the model in each pass, which torch.compile cannot follow.
        passes_left: Passes that the run will take.
        left_s: Seconds that the run may still take; None where its steps are given instead.
    """
    if mode == "off" or decided is False:
        return Compilation(None, decided)
    if changes_passes:
        note = "Not compiled: what saves memory changes the model in each pass, which torch.compile cannot follow."
        return Compilation(None, False, (note,))
    trial = _Trial(adapter, loss, move_batch(batch, precision.device), precision)
    is_undecided = mode == "auto" and decided is None
    if is_undecided:
        seconds = passes_left * _pass_s(trial, loss) if left_s is None else left_s
        if seconds < WORTHWHILE_S:
            note = "Not compiled: the run is shorter than ten times what torch.compile takes."
            return Compilation(None, False, (note,))
    compiled, note = _compile(trial, must_be_faster=is_undecided)
    return Compilation(compiled, compiled is not None, (note,))


def compile_loss(
    adapter: nn.Module, objective: TaskLoss, batch: Batch, precision: Precision
) -> tuple[LossFunction | None, str]:
    """Compile a model and its loss with torch.compile and try them on ``batch``, forward and backward.

    As one function, so that the logits of a large vocabulary are never kept in float32.

    Args:
        adapter: On the device of ``precision``; not changed.
        objective: Its loss.
        batch: A micro-batch on the CPU.
        precision: Device and number format.

    Returns:
        The compiled function, which shares all weights, and a sentence for the user; None and the reason if compiling
        fails or another loss is computed.
    """

    def loss(batch: Batch) -> LossParts:
        return objective.loss(adapter, batch)

    return _compile(_Trial(adapter, loss, move_batch(batch, precision.device), precision), must_be_faster=False)


def _compile(trial: _Trial, *, must_be_faster: bool) -> tuple[LossFunction | None, str]:
    # Without dropout: the compiled model draws other random numbers.
    expected = _probe(trial, trial.loss, is_training=False)
    plain_s = _pass_s(trial, trial.loss)
    start = time.perf_counter()
    try:
        compiled = cast(LossFunction, torch.compile(trial.loss))
        found = _probe(trial, compiled, is_training=False)
        _probe(trial, compiled, is_training=True)
        seconds = time.perf_counter() - start
        compiled_s = _pass_s(trial, compiled)
    except RuntimeError as err:  # the errors of dynamo, inductor and the C++ compiler are subclasses of it
        reason = error_message(err, first_line=True)
        _log.debug("torch.compile failed", exc_info=True)
        return None, f"torch.compile cannot compile this model ({reason}); it trains as it is."
    if not math.isclose(found, expected, rel_tol=_TOLERANCE[trial.precision.dtype], abs_tol=1e-6):
        return None, (
            f"The compiled model computes a loss of {found:.6g}, the model itself {expected:.6g}; it trains as it is."
        )
    speed = f"a pass takes {1000 * compiled_s:.3g} ms instead of {1000 * plain_s:.3g} ms"
    if compiled_s >= plain_s:
        if must_be_faster:
            return None, f"Not compiled: compiled, {speed}."
        return compiled, f"Compiled with torch.compile in {seconds:.0f} s, but {speed}: training.compile=off is faster."
    passes = math.ceil(seconds / (plain_s - compiled_s))
    return compiled, (
        f"Compiled with torch.compile in {seconds:.0f} s: {speed} ({plain_s / compiled_s:.2g}x as fast), "
        f"which pays off after {passes:,} passes."
    )


def _pass_s(trial: _Trial, loss: LossFunction) -> float:
    """Measure the seconds of a pass in training; the first one, which allocates memory, does not count."""
    _probe(trial, loss, is_training=True)
    durations = []
    for _ in range(_TIMED_PASSES):
        start = time.perf_counter()
        _probe(trial, loss, is_training=True)
        durations.append(time.perf_counter() - start)
    return min(durations)


def _probe(trial: _Trial, loss: LossFunction, *, is_training: bool) -> float:
    """Return the summed loss of the batch after a backward pass; model and random state are restored."""
    adapter, precision = trial.adapter, trial.precision
    buffers = [(buffer, buffer.clone()) for buffer in adapter.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in adapter.parameters()]
    was_training = adapter.training
    try:
        adapter.train(is_training)
        with preserve_random(precision.device), precision.autocast():
            found: Tensor = loss(trial.batch).trained
            torch.autograd.backward(found)
            return float(found.detach())  # waits for the device
    finally:
        adapter.train(was_training)
        for buffer, value in buffers:
            buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
