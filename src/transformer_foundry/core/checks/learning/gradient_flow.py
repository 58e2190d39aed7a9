"""Check the gradient of each layer at the initial weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, loss_of_random_labels

__all__ = ["check_gradient_flow"]

SAMPLES = 2
# Largest ratio between the first and the last layer of one kind: beyond this only one of them learns.
LARGEST_RATIO = 1e4


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
