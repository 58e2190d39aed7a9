"""Check that gradients are the derivative of the loss: a detached branch changes them silently."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from transformer_foundry.core.checks.learning.differentiability import gradient_cut
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import (
    Inputs,
    ModelUnderTest,
    generic_weights,
    loss_of_random_labels,
)
from transformer_foundry.core.checks.probing.trace import record_calls
from transformer_foundry.core.models.adapter import Adapter

__all__ = ["check_derivative"]

# Without one of these, autograd gives the derivative.
INTERRUPTIONS = re.compile(r"\.detach\(|no_grad|\.data\b|autograd\.Function|inference_mode|register_hook|stop_grad")
# Steps of a straight-through estimator, whose gradient is meant to differ.
STEPS = frozenset({"round", "floor", "ceil", "sign", "argmax", "argmin", "one_hot", "multinomial", "heaviside"})
LARGEST_MODEL = 5_000_000
WEIGHTS = 24
# Along a gradient of length 1. The largest two that agree are used: small ones show rounding, large ones curvature.
STEPS_ALONG = (4e-2, 2e-2, 1e-2, 1e-3, 1e-4)
TOLERANCE = 0.03
# Two slopes that agree within this share of the stated one; at kinks of a ReLU they miss the derivative by 1 %.
AGREEMENT = 0.0025
# What a hundredth of the change of the loss has to exceed, as a share of the loss: roundings in float32 or float64.
SMALLEST_CHANGE = {True: 4 * 1.2e-7, False: 4 * 2.2e-16}


def check_derivative(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check the gradient of weights against differences of the loss in float64, if the code interrupts gradients."""
    code = "".join(file.text for file in subject.source.files.values())
    if not subject.is_differentiable or not INTERRUPTIONS.search(code) or subject.parameter_count > LARGEST_MODEL:
        return
    if any(call.name in STEPS for call in subject.trace.operations):
        return
    try:
        model = copy.deepcopy(subject.model).double().eval()
    except (RuntimeError, TypeError):
        return
    spare = replace(subject, adapter=Adapter(model, subject.contract))
    weights = {name: item for name, item in model.named_parameters() if item.requires_grad and item.numel() > 1}
    chosen = dict(list(weights.items())[:: max(1, len(weights) // WEIGHTS)])
    with generic_weights(model):
        try:
            smallest = SMALLEST_CHANGE[_has_float32(spare)]
            pairs = {name: _compare(spare, item, smallest) for name, item in chosen.items()}
        except RuntimeError:
            return  # The model has float32 in its code, where float64 does not fit.
    wrong = {name: pair for name, pair in pairs.items() if pair is not None}
    if wrong:
        yield _finding(subject, wrong, len(chosen))


def _compare(subject: ModelUnderTest, weight: Tensor, smallest: float) -> tuple[float, float] | None:
    """Return the slope that the gradient gives along itself, and that of the loss; None if they agree."""
    inputs = subject.inputs(batch=2)
    with torch.enable_grad():
        gradient = torch.autograd.grad(_loss(subject, inputs), [weight], allow_unused=True)[0]
    if gradient is None or not float(gradient.norm()) > 1e-9:
        return None
    stated = float(gradient.norm())
    slope = _slope(subject, inputs, weight, gradient / gradient.norm(), stated, smallest)
    return (stated, slope) if slope is not None and abs(slope - stated) > TOLERANCE * stated else None


def _has_float32(subject: ModelUnderTest) -> bool:
    """Return whether a model in float64 computes something in a shorter format."""
    with torch.no_grad(), record_calls(subject.model, subject.source) as record:
        _loss(subject, subject.inputs(batch=2))
    short = (torch.float32, torch.float16, torch.bfloat16)
    return any(call.output.dtype in short for call in record.operations)


def _slope(
    subject: ModelUnderTest, inputs: Inputs, weight: Tensor, direction: Tensor, stated: float, smallest: float
) -> float | None:
    """Return the slope of the loss along ``direction``; None if no two steps agree, as at a kink or in float32."""
    known: float | None = None
    for size in STEPS_ALONG:
        with torch.no_grad():
            losses = []
            for factor in (size, -2 * size, size):
                weight.add_(factor * direction)
                losses.append(float(_loss(subject, inputs)))
        if 2 * size * stated * AGREEMENT * 4 < smallest * abs(losses[0]):
            return None
        slope = (losses[0] - losses[1]) / (2 * size)
        if known is not None and abs(slope - known) <= AGREEMENT * stated:
            return slope
        known = slope
    return None


def _loss(subject: ModelUnderTest, inputs: Inputs) -> Tensor:
    logits = subject.adapter(inputs.ids, inputs.mask, inputs.decoder_ids)
    flat = logits.reshape(-1, logits.shape[-1])
    labels = torch.arange(len(flat)) % flat.shape[-1]
    return torch.nn.functional.cross_entropy(flat, labels)


def _finding(subject: ModelUnderTest, wrong: dict[str, tuple[float, float]], tried: int) -> Finding:
    with torch.enable_grad(), generic_weights(subject.model):
        with record_calls(subject.model, subject.source) as record:
            loss_of_random_labels(subject, subject.inputs(batch=2))
        cut = gradient_cut(subject, record)
    name, (stated, slope) = max(wrong.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    return finding_at(
        "gradients",
        "warning",
        f"The gradient is not the derivative of the loss for {len(wrong)} of {tried} weights: for {name} it promises "
        f"a slope of {stated:.3g}, the loss has {slope:.3g}. A part of the path is detached, so training follows "
        "another direction than the loss.",
        cut or subject.locator.forward(),
        "remove .detach(), .data or torch.no_grad() from the path between weights and loss.",
    )
