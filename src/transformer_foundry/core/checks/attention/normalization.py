"""Check that attention weights are normalized, by a softmax or by an equivalent division."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["check_normalization"]

PRODUCTS = ("matmul", "__matmul__", "bmm", "einsum")
# Operations that may run between the weighted sum of the values and the layer that mixes the heads.
MOVING = frozenset({
    "transpose", "permute", "contiguous", "view", "reshape", "dropout", "to", "flatten", "movedim", "type_as",
})  # fmt: skip
EXACT = 1e-3
# Names of designs that use no softmax.
WITHOUT = re.compile(
    r"linear_?att|retention|retnet|sigmoid|relu|kernel|lightning|decay|gated|state|mamba", re.IGNORECASE
)


def check_normalization(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that what multiplies the values sums to 1 over the keys, or the result is normalized afterwards."""
    calls = subject.trace.operations
    names = " ".join([*(type(module).__name__ for module in subject.model.modules()), *map(str, subject.config)])
    if WITHOUT.search(names):
        return
    for index, call in enumerate(calls):
        weights = _bare_weights(call, subject.length)
        if weights is None or not _made_of_queries_and_keys(call, weights, calls[:index]):
            continue
        sums = weights.float().sum(dim=-1)
        if torch.allclose(sums, torch.ones_like(sums), atol=EXACT) or not _reaches_linear_unchanged(
            call, calls[index + 1 :]
        ):
            continue
        yield _without_softmax(subject, call, sums)
        return


def _bare_weights(call: TracedCall, length: int) -> Tensor | None:
    """Return the (..., T, T) left factor of a product with values (..., T, width); None for other operations."""
    if call.name not in PRODUCTS or len(call.inputs) != 2:
        return None
    left, right = call.inputs
    fits = left.ndim >= 3 and left.shape[-2:] == (length, length) and right.shape[-2] == length != right.shape[-1]
    return left if fits and left.is_floating_point() else None


def _made_of_queries_and_keys(product: TracedCall, weights: Tensor, before: list[TracedCall]) -> bool:
    """Return whether the module computed these weights from queries and keys, without a softmax."""
    own = [call for call in before if call.module == product.module]
    scores = [call for call in own if call.name in PRODUCTS and call.output.shape == weights.shape]
    return bool(scores) and not any("softmax" in call.name or "norm" in call.name for call in own)


def _reaches_linear_unchanged(product: TracedCall, later: list[TracedCall]) -> bool:
    """Return whether the weighted sum reaches a linear layer without being divided, gated or normalized."""
    current = product.raw
    for call in later:
        if not any(tensor.data_ptr() == current.data_ptr() for tensor in call.inputs):
            continue
        if call.name == "linear":
            return True
        if call.name not in MOVING:
            return False
        current = call.raw
    return False


def _without_softmax(subject: ModelUnderTest, call: TracedCall, sums: Tensor) -> Finding:
    return finding_at(
        "attention",
        "warning",
        "The attention weights are not normalized: no softmax is applied to the scores, and what multiplies the "
        f"values sums to {float(sums.min()):.2f} to {float(sums.max()):.2f} over the keys, not to 1. The result grows "
        "with the length of the text instead of being an average.",
        subject.locator.at(call.line, call.module),
        "take the softmax of the scores over the keys before they multiply the values: softmax(dim=-1).",
    )
