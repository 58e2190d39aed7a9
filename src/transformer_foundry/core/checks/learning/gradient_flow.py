"""Check the gradient of each layer at the initial weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, loss_of_random_labels
from transformer_foundry.core.models.side_effects import restore_weights

__all__ = ["check_gradient_flow", "check_zero_factors"]

SAMPLES = 2
# Largest ratio between the first and the last layer of one kind: beyond this only one of them learns.
LARGEST_RATIO = 1e4
# A gate that starts at zero hides a branch in the first step, a projection in it that does too in the second.
UPDATES = 4
UPDATE = 0.02
# Gradients below this share of the largest are rounding.
SMALLEST_SHARE = 1e-6
# Weights of which every batch uses a part only.
CONDITIONAL = ("expert", "moe")
SHOWN = 3


def check_gradient_flow(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that layers of one kind get gradients of similar size at every depth."""
    if not subject.is_differentiable:
        return
    with torch.enable_grad():
        loss = loss_of_random_labels(subject, subject.inputs(batch=SAMPLES))
        parameters = {
            name: item for name, item in subject.model.named_parameters() if item.requires_grad and item.ndim >= 2
        }
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    sizes = {
        name: 0.0 if gradient is None else float(gradient.float().pow(2).mean().sqrt())
        for name, gradient in zip(parameters, gradients, strict=True)
    }
    subject.measurements.gradients = [(name.removesuffix(".weight"), size) for name, size in sizes.items()]
    if sizes and not any(sizes.values()):
        yield _no_gradient(subject, len(sizes))
        return
    for first, last in _ends(sizes):
        if sizes[first] > 0 < sizes[last] and not 1 / LARGEST_RATIO < sizes[first] / sizes[last] < LARGEST_RATIO:
            yield _uneven(subject, first, last, sizes)
            return


def check_zero_factors(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that weights that start at zero learn: two factors that are both zero keep each other there."""
    if not subject.is_differentiable:
        return
    weights = {name: item for name, item in subject.model.named_parameters() if item.requires_grad and item.numel()}
    zero = [name for name, item in weights.items() if not item.any() and not any(part in name for part in CONDITIONAL)]
    if not zero:
        return
    with restore_weights(weights.values()):
        for step in range(UPDATES):
            gradients = _gradients(subject, weights, step)
            zero = [name for name in zero if not gradients[name].any()]
            if not zero:
                return
            with torch.no_grad():
                for name, gradient in gradients.items():
                    weights[name].sub_(UPDATE * gradient / gradient.abs().amax().clamp(min=1e-30))
        stuck = _awake(subject, weights, zero)
    if stuck:
        yield _stuck(subject, stuck)


def _awake(subject: ModelUnderTest, weights: Mapping[str, Tensor], zero: list[str]) -> list[str]:
    """Return the weights that get a gradient once all of ``zero`` are small numbers, of either sign."""
    generator = torch.Generator().manual_seed(5)
    noise = {name: UPDATE * torch.randn(weights[name].shape, generator=generator) for name in zero}
    found: set[str] = set()
    for sign in (1, -1):
        with torch.no_grad():
            for name in zero:
                weights[name].copy_(sign * noise[name])
        gradients = _gradients(subject, weights, UPDATES)
        largest = max(float(gradient.abs().max()) for gradient in gradients.values())
        found |= {name for name in zero if float(gradients[name].abs().max()) > SMALLEST_SHARE * largest}
    return [name for name in zero if name in found]


def _gradients(subject: ModelUnderTest, weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    with torch.enable_grad():
        loss = loss_of_random_labels(subject, subject.inputs(batch=SAMPLES, seed=60 + seed), seed=seed)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(weights.items(), found, strict=True)
    }


def _stuck(subject: ModelUnderTest, names: list[str]) -> Finding:
    owner, _, attribute = names[0].rpartition(".")
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return finding_at(
        "gradient flow",
        "warning",
        f"{shown} never learn{'s' if len(names) == 1 else ''}: {'it starts' if len(names) == 1 else 'they start'} at "
        f"zero with a gradient of exactly zero, and {UPDATES} updates of all other weights change neither. Any other "
        "value gives a gradient. The product of two factors that are both zero has none, nor has the relu or the "
        "square of zero.",
        subject.locator.attribute(owner, attribute),
        "start one of the two factors at random values (LoRA: A at random, B at zero), and no gate inside relu at 0.",
    )


def _ends(sizes: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the first and the last of the parameters whose names differ only in the number of the layer."""
    families: dict[str, list[str]] = {}
    for name in sizes:
        key = ".".join("#" if part.isdigit() else part for part in name.split("."))
        families.setdefault(key, []).append(name)
    for names in families.values():
        if len(names) > 1:
            yield names[0], names[-1]


def _no_gradient(subject: ModelUnderTest, count: int) -> Finding:
    return finding_at(
        "gradient flow",
        "warning",
        f"Before training none of the {count} weight matrices gets a gradient: neither embeddings nor layers nor the "
        "output layer can learn. A gain, a scale or a weight matrix on the path is zero that should not be.",
        subject.locator.forward(),
        "initialize gains of norms to 1 (only gates beside a residual path may start at 0).",
    )


def _uneven(subject: ModelUnderTest, first: str, last: str, sizes: dict[str, float]) -> Finding:
    weaker = first if sizes[first] < sizes[last] else last
    owner, _, _attribute = weaker.rpartition(".")
    ratio = max(sizes[first], sizes[last]) / min(sizes[first], sizes[last])
    verb = "vanishes" if weaker == first else "explodes"
    return finding_at(
        "gradient flow",
        "warning",
        f"The gradient {verb} towards the first layers: {first} gets {sizes[first]:.1e}, {last} gets "
        f"{sizes[last]:.1e}, a factor of {ratio:.0e}. One end of the model learns while the other does not change or "
        "diverges.",
        subject.locator.module(owner),
        "use a residual connection and a norm in every block, and initialize with std=0.02.",
    )
