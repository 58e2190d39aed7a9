"""Verify that a memory saving changes nothing: compare loss and gradients with it and without it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.models.side_effects import no_side_effects

__all__ = ["TOLERANCE", "EquivalenceResult", "PassResult", "compare", "run_once"]

TOLERANCE = 1e-6
"""Largest allowed difference of a gradient, relative to its norm: sums of float32 in another order."""

# Gradients that are zero except for rounding (the bias of a key) may differ by this share of the norm of all gradients.
_FLOOR = 1e-7


@dataclass(frozen=True)
class EquivalenceResult:
    """Whether a saving leaves the training unchanged.

    Attributes:
        holds: Whether it may be used.
        line: What it does, or the reason why it is not used; part of a sentence, without a period.
    """

    holds: bool
    line: str


@dataclass(frozen=True)
class PassResult:
    """Results of a forward and a backward pass.

    Attributes:
        loss: Summed loss.
        gradients: By name of the parameter; None where the loss does not depend on it.
        buffers: The model's buffers after the passes, by name.
        output_size: Size of the last dimension of the logits.
        row_count: Rows of logits.
    """

    loss: Tensor
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    output_size: int
    row_count: int


def run_once(
    adapter: nn.Module,
    objective: TaskLoss,
    batch: Batch,
    active: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    *,
    label_smoothing: float = 0.0,
) -> PassResult:
    """Run ``adapter`` forward and backward in train mode and in float32, without side effects.

    The random numbers are always the same. ``active`` is entered for the forward pass and the loss.
    """
    shapes: list[torch.Size] = []
    trainable = {name: parameter for name, parameter in adapter.named_parameters() if parameter.requires_grad}
    with no_side_effects(adapter, train=True):
        handle = adapter.register_forward_hook(lambda _module, _inputs, output: shapes.append(_logits(output).shape))
        try:
            with active(), torch.enable_grad():
                loss = objective.loss(adapter, batch, label_smoothing=label_smoothing).trained
        finally:
            handle.remove()
        if not loss.requires_grad:
            raise TrainingError("The loss does not depend on any trainable parameter.")
        found = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
        buffers = {name: buffer.clone() for name, buffer in adapter.named_buffers()}
    size = shapes[0]
    return PassResult(loss.detach(), dict(zip(trainable, found, strict=True)), buffers, size[-1], size[:-1].numel())


def _logits(output: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Return the logits of an adapter, which may return the model's own loss beside them."""
    return output[0] if isinstance(output, tuple) else output


def compare(plain: PassResult, found: PassResult, *, is_exact: bool = False) -> str | None:
    """Return the difference between two passes as part of a sentence, or None.

    Args:
        plain: The pass without the saving.
        found: The pass with it.
        is_exact: Whether every bit must be equal.
    """
    for name, buffer in found.buffers.items():
        if not torch.equal(buffer, plain.buffers[name]):
            return f"it changes the buffer {name}"
    if _differs(plain.loss, found.loss, 0.0, is_exact):
        return f"the loss differs ({float(found.loss):.9g} instead of {float(plain.loss):.9g})"
    norms = [gradient.norm() for gradient in plain.gradients.values() if gradient is not None]
    whole = float(torch.stack([norm.double().cpu() for norm in norms]).norm())
    for name, expected in plain.gradients.items():
        gradient = found.gradients[name]
        if expected is None or gradient is None:
            if expected is not gradient:
                return f"the gradient of {name} is missing in one of two passes"
        elif _differs(expected, gradient, _FLOOR * whole, is_exact):
            share = float((gradient - expected).norm() / expected.norm())
            return f"the gradient of {name} differs by {share:.1e} of its norm"
    return None


def _differs(expected: Tensor, found: Tensor, floor: float, is_exact: bool) -> bool:
    if is_exact:
        return not torch.equal(expected, found)
    # NaN is a difference.
    return not float((found - expected).norm()) <= TOLERANCE * float(expected.norm()) + floor
