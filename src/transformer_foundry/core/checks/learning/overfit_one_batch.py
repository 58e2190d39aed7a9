"""A model that can learn anything can learn one batch by heart."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from transformer_foundry.core.checks.probing.location import Location, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.checks.report.report import Finding

__all__ = ["check_overfit_one_batch"]

STEPS = 60
LARGE_MODEL = 20_000_000
STEPS_OF_LARGE = 25
LEARNING_RATES = (3e-3, 3e-4)
# Of the loss at the start; most models get below a tenth of it, some with scaled logits only slowly.
LARGEST_REST = 0.95
SAMPLES, CLASSES = 4, 8


def check_overfit_one_batch(subject: ModelUnderTest) -> Iterator[Finding]:
    """AdamW on one batch brings its loss down; the weights are afterwards what they were."""
    if not subject.is_differentiable:
        return
    inputs = subject.inputs(batch=SAMPLES)
    saved = {name: value.detach().clone() for name, value in subject.model.named_parameters()}
    curves = []
    try:
        for rate in LEARNING_RATES:
            curves.append(_train(subject, inputs, rate))
            _restore(subject, saved)
            if _rest(curves[-1]) < LARGEST_REST:
                break
    finally:
        _restore(subject, saved)
        subject.model.zero_grad(set_to_none=True)
    best = min(curves, key=_rest)
    if not _rest(best) < LARGEST_REST:
        location: Location = subject.locator.forward()
        yield finding_at(
            "memorising",
            "warning",
            f"The model cannot learn even one batch of {SAMPLES} texts by heart: after {len(best)} steps of AdamW the "
            f"loss went from {best[0]:.2f} to {best[-1]:.2f}. Whatever it is trained on, it will learn little.",
            location,
            "Look at the findings above and at the figure: gradient by layer, attention entropy, loss at the start.",
        )


def _train(subject: ModelUnderTest, inputs: Inputs, rate: float) -> list[float]:
    parameters = [item for item in subject.model.parameters() if item.requires_grad]
    steps = STEPS if sum(item.numel() for item in parameters) < LARGE_MODEL else STEPS_OF_LARGE
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    labels = None
    losses = []
    with torch.enable_grad():
        for _ in range(steps):
            logits = subject.call(inputs)
            flat = logits.reshape(-1, logits.shape[-1])
            if labels is None:
                classes = min(CLASSES, logits.shape[-1])
                labels = torch.arange(len(flat)) * 7 % 13 % classes
            loss = F.cross_entropy(flat, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if losses[-1] < 0.1 * losses[0]:
                break
    return losses


def _rest(curve: list[float]) -> float:
    """Return what is left of the loss, as a share; infinity when it is not finite."""
    return curve[-1] / curve[0] if math.isfinite(curve[-1]) and curve[0] > 0 else math.inf


def _restore(subject: ModelUnderTest, saved: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in subject.model.named_parameters():
            parameter.copy_(saved[name])
