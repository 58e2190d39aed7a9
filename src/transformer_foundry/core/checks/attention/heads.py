"""Check the attention weights: softmax over the keys, heads that are neither one-hot nor copies of each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.weights import SOFTMAX, AttentionRecord, attention_records
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["check_attention_entropy", "check_attention_weights"]

EXACT = 1e-4
# Mean entropy of attention at initialization, as a share of the largest possible; heads below this are one-hot.
SATURATED = 0.05
# Heads are copies if their weights differ by less than this share of their distance from uniform weights.
ALIKE = 1e-3
SMALLEST_DEVIATION = 1e-6
ENTROPY_LENGTH = 32


def check_attention_weights(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the weights that multiply the values sum to 1 over the keys."""
    calls = subject.trace.operations
    for index, call in enumerate(calls):
        if call.name not in SOFTMAX or call.output.ndim < 3:
            continue
        if call.output.shape[-2:] != (subject.length, subject.length):
            continue
        weights = _weights_of_values(call, calls[index + 1 :])
        if weights is not None:
            sums = weights.float().sum(dim=-1)
            if not torch.allclose(sums, torch.ones_like(sums), atol=EXACT):
                yield (
                    _masked_late(subject, call) if _is_masked_late(call, weights) else _wrong_axis(subject, call, sums)
                )
                return


def check_attention_entropy(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that attention at initialization is not one-hot, and heads are not copies of each other."""
    length = min(ENTROPY_LENGTH, subject.contract.max_length or ENTROPY_LENGTH)
    record = subject.traced(subject.inputs(length=length))
    records = [
        item
        for item in attention_records(record, {length, subject.inputs(length=length).ids.shape[1]})
        if item.over_keys and item.weights.shape[-1] > 1
    ]
    shares = [_entropy_shares(item.weights) for item in records]
    subject.measurements.entropies = [(item.module, share) for item, share in zip(records, shares, strict=True)]
    for item, share in zip(records, shares, strict=True):
        if len(share) and max(share) < SATURATED:
            yield _saturated(subject, item, share)
            return
    alike = next((item for item in records if _are_alike(item)), None)
    if alike is not None:
        yield _copies(subject, alike)


def _weights_of_values(call: TracedCall, later: list[TracedCall]) -> Tensor | None:
    """Return the weights as they multiply the values, with the summed axis last; None if unknown."""
    current = call.raw
    for other in later:
        if not any(tensor.data_ptr() == current.data_ptr() for tensor in other.inputs):
            continue
        if other.name in ("matmul", "__matmul__", "bmm") and other.inputs[0].data_ptr() == current.data_ptr():
            return other.inputs[0]
        if other.name == "einsum":
            return call.output if _einsum_over_last(str(other.arguments.get("0", ""))) else None
        if other.name in ("dropout", "to", "type_as", "float", "contiguous", "masked_fill"):
            current = other.raw
    return None


def _is_masked_late(call: TracedCall, weights: Tensor) -> bool:
    """Return whether the softmax itself is right, but weights were set to zero afterwards."""
    if weights.shape != call.output.shape or not torch.allclose(call.output.sum(dim=-1), torch.ones(()), atol=EXACT):
        return False
    return bool(((weights == 0) & (call.output > 0)).any())


def _masked_late(subject: ModelUnderTest, call: TracedCall) -> Finding:
    return finding_at(
        "attention",
        "error",
        "The mask is applied after the softmax: the weights of hidden positions become 0, but they already count in "
        "the denominator. The remaining weights do not sum to 1 and depend on the hidden positions: a causal model "
        "sees the future this way.",
        subject.locator.at(call.line, call.module),
        "mask the scores before the softmax: scores.masked_fill(hidden, float('-inf')).softmax(dim=-1).",
    )


def _einsum_over_last(equation: str) -> bool:
    left, _, result = equation.replace(" ", "").partition("->")
    first = left.split(",")[0]
    return bool(first) and first[-1] not in result


def _wrong_axis(subject: ModelUnderTest, call: TracedCall, sums: Tensor) -> Finding:
    return finding_at(
        "attention",
        "error",
        "The softmax of the attention runs over the wrong axis: what is multiplied with the values sums to "
        f"{float(sums.min()):.2f} to {float(sums.max()):.2f} over the keys, not to 1. Each query should divide its "
        "attention among the keys.",
        subject.locator.at(call.line, call.module),
        "take the softmax over the last axis, the keys: softmax(scores, dim=-1), and multiply weights @ values.",
    )


def _entropy_shares(weights: Tensor) -> list[float]:
    """Return, for each sample and head, the mean entropy of rows as a share of the largest possible, ln(visible)."""
    visible = (weights > 1e-9).sum(dim=-1)
    entropy = -(weights.clamp(min=1e-12).log() * weights).sum(dim=-1)
    counted = visible > 1
    share = torch.where(counted, entropy / visible.clamp(min=2).float().log(), torch.zeros_like(entropy))
    total = counted.sum(dim=-1).clamp(min=1)
    return (share.sum(dim=-1) / total).tolist()


def _saturated(subject: ModelUnderTest, item: AttentionRecord, share: list[float]) -> Finding:
    return finding_at(
        "attention entropy",
        "warning",
        "Attention is saturated before training: every head attends to one key only (entropy at most "
        f"{max(share):.1%} of the largest possible). The softmax has no gradient there, so heads cannot learn what to "
        "attend to.",
        subject.locator.module(item.module, item.line),
        "divide the scores by sqrt(head width), and initialize queries and keys smaller (std=0.02).",
    )


def _are_alike(item: AttentionRecord) -> bool:
    """Return whether all heads have the same weights, and not only because every position attends evenly."""
    if not item.heads or item.heads < 2 or len(item.weights) != item.heads:
        return False
    seen = item.weights > 1e-9
    even = seen / seen.sum(dim=-1, keepdim=True).clamp(min=1)
    deviation = (item.weights - even).abs().max()
    return bool((item.weights - item.weights[:1]).abs().max() <= ALIKE * deviation) and bool(
        deviation > SMALLEST_DEVIATION
    )


def _copies(subject: ModelUnderTest, item: AttentionRecord) -> Finding:
    return finding_at(
        "initialization",
        "warning",
        f"All {item.heads} heads are copies of each other before training: they have exactly the same attention "
        "weights. They get the same gradient and stay equal, so all of them do no more than one.",
        subject.locator.module(item.module, item.line),
        "initialize the weights of each head independently, and do not copy or repeat them.",
    )
