"""Attention itself: the softmax runs over the keys, weights are neither one-hot nor blind, scores are scaled."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention import AttentionRecord, attention_records
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.subject import Subject
from transformer_foundry.core.checks.tracing import Step, run_traced

__all__ = ["check_attention", "measure_entropy"]

EXACT = 1e-4
# Mean entropy of attention at initialisation, as a share of the largest possible, below which heads are one-hot.
SATURATED = 0.05
ENTROPY_LENGTH = 32


def check_attention(subject: Subject) -> Iterator[Finding]:
    """The weights that multiply the values sum to 1 over the keys."""
    steps = subject.trace.operations
    for index, step in enumerate(steps):
        if step.name not in ("softmax", "_softmax") or step.output.ndim < 3:
            continue
        if step.output.shape[-2:] == (subject.length, subject.length) and _feeds_values(step, steps[index + 1 :]):
            sums = step.output.float().sum(dim=-1)
            if not torch.allclose(sums, torch.ones_like(sums), atol=EXACT):
                yield _wrong_axis(subject, step, sums)
                return


def measure_entropy(subject: Subject) -> Iterator[Finding]:
    """Attention at initialisation is spread out: entropy per head, and heads that look at one key only."""
    length = min(ENTROPY_LENGTH, subject.contract.max_length or ENTROPY_LENGTH)
    record = run_traced(subject.model, subject.source, lambda: subject.logits(subject.inputs(length=length)))
    records = [item for item in attention_records(record, {length, subject.inputs(length=length).ids.shape[1]}) if item.over_keys and item.weights.shape[-1] > 1]
    shares = [_entropy_shares(item.weights) for item in records]
    subject.evidence["entropy"] = [(item.module, share) for item, share in zip(records, shares, strict=True)]
    for item, share in zip(records, shares, strict=True):
        if len(share) and max(share) < SATURATED:
            yield _saturated(subject, item, share)
            return


def _feeds_values(step: Step, later: list[Step]) -> bool:
    """Whether the result is multiplied with values over its last axis: then that axis is the keys'."""
    pointer = step.raw.data_ptr()
    for other in later:
        if not any(tensor.data_ptr() == pointer for tensor in other.inputs):
            continue
        if other.name in ("matmul", "__matmul__", "bmm") and other.inputs[0].data_ptr() == pointer:
            return True
        if other.name == "einsum":
            return _einsum_over_last(str(other.arguments.get("0", "")))
        if other.name in ("dropout", "to", "type_as", "float", "contiguous", "masked_fill"):
            pointer = other.raw.data_ptr()
    return False


def _einsum_over_last(equation: str) -> bool:
    left, _, result = equation.replace(" ", "").partition("->")
    first = left.split(",")[0]
    return bool(first) and first[-1] not in result


def _wrong_axis(subject: Subject, step: Step, sums: Tensor) -> Finding:
    place = subject.places.at(step.line, step.module or None)
    return Finding(
        "attention",
        "error",
        f"The softmax of the attention runs over the wrong axis: its weights sum to {float(sums.min()):.2f} to "
        f"{float(sums.max()):.2f} over the keys, and to 1 over another axis. Positions compete for being looked at, "
        "instead of each one dividing its attention among the keys.",
        str(place),
        place.lead("take the softmax over the last axis, the keys: softmax(scores, dim=-1)."),
    )


def _entropy_shares(weights: Tensor) -> list[float]:
    """Return, for each sample and head, the mean entropy of rows as a share of the largest possible, ln(visible)."""
    visible = (weights > 1e-9).sum(dim=-1)
    entropy = -(weights.clamp(min=1e-12).log() * weights).sum(dim=-1)
    counted = visible > 1
    share = torch.where(counted, entropy / visible.clamp(min=2).float().log(), torch.zeros_like(entropy))
    total = counted.sum(dim=-1).clamp(min=1)
    return (share.sum(dim=-1) / total).tolist()


def _saturated(subject: Subject, item: AttentionRecord, share: list[float]) -> Finding:
    place = subject.places.module(item.module, item.line)
    return Finding(
        "attention entropy",
        "warning",
        f"Attention is saturated before training: every head looks at one key only (entropy at most {max(share):.1%} of "
        "the largest possible). The softmax has no gradient there; heads cannot learn where to look.",
        str(place),
        place.lead("divide the scores by sqrt(head width), and initialise queries and keys smaller (std=0.02)."),
    )

