"""Attention weights are normalised: a softmax, or something that does its work."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.model_under_test import Subject
from transformer_foundry.core.checks.probing.trace import Step
from transformer_foundry.core.checks.report.report import Finding

__all__ = ["check_normalisation"]

PRODUCTS = ("matmul", "__matmul__", "bmm", "einsum")
# What may stand between the sum of the values and the layer that mixes the heads.
MOVING = frozenset({
    "transpose", "permute", "contiguous", "view", "reshape", "dropout", "to", "flatten", "movedim", "type_as",
})  # fmt: skip
EXACT = 1e-3
# Designs that do without a softmax, by their own names.
WITHOUT = re.compile(
    r"linear_?att|retention|retnet|sigmoid|relu|kernel|lightning|decay|gated|state|mamba", re.IGNORECASE
)


def check_normalisation(subject: Subject) -> Iterator[Finding]:
    """What multiplies the values sums to 1 over the keys, unless the result is divided or normalised afterwards."""
    steps = subject.trace.operations
    names = " ".join([*(type(module).__name__ for module in subject.model.modules()), *map(str, subject.config)])
    if WITHOUT.search(names):
        return
    for index, step in enumerate(steps):
        weights = _bare_weights(step, subject.length)
        if weights is None or not _made_of_queries_and_keys(step, weights, steps[:index]):
            continue
        sums = weights.float().sum(dim=-1)
        if torch.allclose(sums, torch.ones_like(sums), atol=EXACT) or not _goes_straight_on(step, steps[index + 1 :]):
            continue
        yield _without_softmax(subject, step, sums)
        return


def _bare_weights(step: Step, length: int) -> Tensor | None:
    """Return the (..., T, T) left factor of a product with values (..., T, width), None when it is no such product."""
    if step.name not in PRODUCTS or len(step.inputs) != 2:
        return None
    left, right = step.inputs
    fits = left.ndim >= 3 and left.shape[-2:] == (length, length) and right.shape[-2] == length != right.shape[-1]
    return left if fits and left.is_floating_point() else None


def _made_of_queries_and_keys(product: Step, weights: Tensor, before: list[Step]) -> bool:
    """Whether the module itself multiplied queries with keys to get these weights, and took no softmax."""
    own = [step for step in before if step.module == product.module]
    scores = [step for step in own if step.name in PRODUCTS and step.output.shape == weights.shape]
    return bool(scores) and not any("softmax" in step.name or "norm" in step.name for step in own)


def _goes_straight_on(product: Step, later: list[Step]) -> bool:
    """Whether the sum of the values reaches a linear layer as it is: not divided, gated or normalised."""
    current = product.raw
    for step in later:
        if not any(tensor.data_ptr() == current.data_ptr() for tensor in step.inputs):
            continue
        if step.name == "linear":
            return True
        if step.name not in MOVING:
            return False
        current = step.raw
    return False


def _without_softmax(subject: Subject, step: Step, sums: Tensor) -> Finding:
    place = subject.places.at(step.line, step.module or None)
    return Finding(
        "attention",
        "warning",
        "The attention weights are not normalised: no softmax runs over the scores, and what multiplies the values "
        f"sums to {float(sums.min()):.2f} to {float(sums.max()):.2f} over the keys, not to 1. The result grows with "
        "the length of the text instead of being an average.",
        str(place),
        place.lead("take the softmax of the scores over the keys before they multiply the values: softmax(dim=-1)."),
    )
