"""Check that the loss at initialization is near ln V, or that a few steps bring it there."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, loss_of_random_labels
from transformer_foundry.core.models.side_effects import restore_weights

__all__ = ["check_initial_loss"]

# Largest accepted excess over ln V, in nats. Logits of standard deviation s cost s^2 / 2: 2 nats are s = 2; usual
# initializations stay below s = 1.
LARGEST_EXCESS = 2.0
SAMPLES = 4
# Of random labels, which no step can learn: embeddings of N(0, 1) tied to the output keep 7 to 10 % of their excess,
# matrices of N(0, 1) everywhere 50 to 80 %.
STEPS, BATCHES, LEARNING_RATE = 30, 3, 3e-3
LARGEST_REMAINDER = 0.2


def check_initial_loss(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the loss before training is near that of a uniform guess, ln V, or soon falls."""
    inputs = subject.inputs(batch=SAMPLES)
    logits = subject.logits(inputs)
    if not torch.isfinite(logits).all():
        return
    classes = logits.shape[-1]
    flat = logits.reshape(-1, classes)
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(classes, (8, len(flat)), generator=generator)
    losses = torch.stack([F.cross_entropy(flat, row) for row in labels])
    loss, guess = float(losses.mean()), math.log(classes)
    subject.measurements.initial_loss, subject.measurements.uniform_loss = loss, guess
    excess = loss - guess
    if excess <= LARGEST_EXCESS:
        return
    location, cause, std = _large_weights(subject)
    remaining = _remaining_excess(subject, guess)
    falls = remaining < LARGEST_REMAINDER
    after = f" After {STEPS} steps of AdamW {max(0.0, remaining):.0%} of the excess remain."
    yield finding_at(
        "loss at initialization",
        "info" if falls or (std is not None and _is_stated(subject, std)) else "warning",
        f"The loss before training is {loss:.1f}, far above that of a uniform guess, ln {classes} = {guess:.2f}: the "
        f"logits have a standard deviation of {float(flat.std()):.1f}.{cause}{after} The first steps only reduce these "
        "scores" + (", and training is often unstable." if not falls else "."),
        location,
        "initialize its weights smaller: nn.init.normal_(weight, std=0.02), or 1/sqrt(width).",
    )


def _remaining_excess(subject: ModelUnderTest, guess: float) -> float:
    """Return the share of the loss above ``guess`` that remains after a few steps; the weights are restored."""
    weights = [item for item in subject.model.parameters() if item.requires_grad]
    if not subject.is_differentiable or not weights:
        return math.inf
    losses: list[float] = []
    with restore_weights(weights), torch.enable_grad():
        optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
        for step in range(STEPS):
            batch = step % BATCHES
            loss = loss_of_random_labels(subject, subject.inputs(batch=SAMPLES, seed=batch), seed=batch)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    subject.model.zero_grad(set_to_none=True)
    remainder = (losses[-1] - guess) / (losses[0] - guess)
    return remainder if math.isfinite(remainder) else math.inf


def _is_stated(subject: ModelUnderTest, std: float) -> bool:
    """Return whether the configuration states this standard deviation, which is then intended."""
    stated = [value for key, value in subject.config.items() if key.startswith(("init", "weight_init"))]
    return any(isinstance(value, int | float) and abs(std - value) < 0.1 * std for value in stated)


def _large_weights(subject: ModelUnderTest) -> tuple[Location, str, float | None]:
    """Return location, description and standard deviation of the largest output weights."""
    candidates = []
    for path, module in subject.model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim == 2 and subject.contract.output_size in weight.shape:
            candidates.append((float(weight.detach().std()), path, module))
    if not candidates:
        return subject.locator.forward(), "", None
    std, path, _module = max(candidates, key=lambda item: item[0])
    return subject.locator.module(path), f" The weights of {path} have a standard deviation of {std:.2g}.", std
