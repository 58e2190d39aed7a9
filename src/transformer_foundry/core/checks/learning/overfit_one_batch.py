"""Check that a model can overfit one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.models.side_effects import restore_weights

__all__ = ["check_overfit_one_batch"]

STEPS = 60
LARGE_MODEL = 20_000_000
STEPS_OF_LARGE = 25
LEARNING_RATES = (3e-3, 3e-4)
# Share of the initial loss that may remain; most models get below a tenth, some with scaled logits only slowly.
LARGEST_SHARE = 0.95
# Training stops early at this share.
STOP_SHARE = 0.1
SAMPLES, CLASSES = 4, 8


def check_overfit_one_batch(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that AdamW reduces the loss of one batch; the weights are restored."""
    if not subject.is_differentiable:
        return
    inputs = subject.inputs(batch=SAMPLES)
    curves = []
    try:
        for lr in LEARNING_RATES:
            with restore_weights(subject.model.parameters()):
                curves.append(_train(subject, inputs, lr))
            if _remaining_share(curves[-1]) < LARGEST_SHARE:
                break
    finally:
        subject.model.zero_grad(set_to_none=True)
    best = min(curves, key=_remaining_share)
    if not _remaining_share(best) < LARGEST_SHARE:
        yield finding_at(
            "memorizing",
            "warning",
            f"The model cannot memorize one batch of {SAMPLES} texts: after {len(best)} steps of AdamW the loss went "
            f"from {best[0]:.2f} to {best[-1]:.2f}. It will learn little from any data.",
            subject.locator.forward(),
            "look at the other findings and at the figure: gradient by layer, attention entropy, loss before training.",
        )


def _train(subject: ModelUnderTest, inputs: Inputs, lr: float) -> list[float]:
    parameters = [item for item in subject.model.parameters() if item.requires_grad]
    steps = STEPS if sum(item.numel() for item in parameters) < LARGE_MODEL else STEPS_OF_LARGE
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    labels = None
    losses = []
    with torch.enable_grad():
        for _ in range(steps):
            logits = subject.call(inputs)
            flat = logits.reshape(-1, logits.shape[-1])
            if labels is None:
                classes = min(CLASSES, logits.shape[-1]) if logits.shape[-1] > 1 else CLASSES
                labels = torch.arange(len(flat)) * 7 % 13 % classes
            loss = F.cross_entropy(flat, labels) if logits.shape[-1] > 1 else F.mse_loss(flat[:, 0], 1.0 + labels)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if losses[-1] < STOP_SHARE * losses[0]:
                break
    return losses


def _remaining_share(curve: list[float]) -> float:
    """Return the last loss as a share of the first; infinity if it is not finite."""
    return curve[-1] / curve[0] if math.isfinite(curve[-1]) and curve[0] > 0 else math.inf
