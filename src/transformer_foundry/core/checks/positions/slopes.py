"""Check linear biases of attention (ALiBi): every head prefers near tokens, and each has a slope of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.weights import AttentionRecord, attention_records
from transformer_foundry.core.checks.positions.position_embeddings import SHORTEST_TABLE, longest_probe
from transformer_foundry.core.checks.positions.relative_positions import (
    LENGTH,
    SHORTER,
    equal_tokens,
    positions_in_stream,
)
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, generic_weights

__all__ = ["check_slopes"]

# Log-weights are a straight line if they deviate from it by at most this share of its slope: ALiBi's are.
STRAIGHT = 1e-2
SMALLEST_SLOPE = 1e-3
# Slopes that differ by less than this share are equal; ALiBi's differ by a factor of at least 2^(1/4).
EQUAL = 1e-3
DECLARED = re.compile(r"alibi|slope", re.IGNORECASE)


def check_slopes(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that linear biases fall with the distance in every head and to both sides, and differ between heads."""
    length = longest_probe(subject, LENGTH)
    if length < SHORTEST_TABLE or subject.positions_reported:
        return
    inputs = equal_tokens(subject, length, length - SHORTER)
    trace = subject.traced(inputs)
    for size in sorted({inputs.target.shape[1], inputs.ids.shape[1]}, reverse=True):
        records = [item for item in attention_records(trace, {size}) if item.weights.shape[-2:] == (size, size)]
        if not records or positions_in_stream(trace, size):
            continue
        for record in records:
            left, right = _slopes(record.weights[:, -1].flip(-1)), _slopes(record.weights[:, 0])
            rising = ((left > SMALLEST_SLOPE) | (right > SMALLEST_SLOPE)).nonzero().flatten().tolist()
            if rising:
                yield _far(subject, record, rising, bool((right > SMALLEST_SLOPE).any()))
                return
        if DECLARED.search(subject.source.main.text):
            tied = _tied(subject, size, inputs.target.shape[1])
            if tied is not None:
                yield tied
                return


def _slopes(weights: Tensor) -> Tensor:
    """Return (N,): how log-weights change with each step away from the first key; 0 where they are no straight line."""
    logs = weights.clamp(min=1e-30).log()
    steps = logs[:, 1:] - logs[:, :-1]
    if bool((weights <= 1e-12).any()):
        steps = steps[:, : max(2, int((weights > 1e-12).all(dim=0).int().cumprod(0).sum()) - 1)]
    slopes = steps.mean(dim=1)
    is_straight = (steps - slopes[:, None]).abs().amax(dim=1) <= STRAIGHT * slopes.abs()
    is_seen = (weights[:, :3] > 1e-12).all(dim=1)
    return torch.where(is_straight & is_seen, slopes, torch.zeros_like(slopes))


def _tied(subject: ModelUnderTest, size: int, length: int) -> Finding | None:
    """Find heads with the same slope under generic weights, so that it is not one that they would learn."""
    with generic_weights(subject.model):
        trace = subject.traced(equal_tokens(subject, length, length - SHORTER))
    for record in attention_records(trace, {size}):
        slopes = _slopes(record.weights[:, -1].flip(-1)).abs()
        slopes = slopes[slopes > SMALLEST_SLOPE].sort().values
        if record.weights.shape[-2:] != (size, size) or len(slopes) < 2:
            continue
        equal = int(((slopes[1:] - slopes[:-1]) < EQUAL * slopes[1:]).sum())
        if equal:
            return finding_at(
                "positions",
                "warning",
                f"Heads share a slope: {equal + 1 if equal == len(slopes) - 1 else equal} of {len(slopes)} heads have "
                f"the slope of another ({', '.join(f'{slope:.3g}' for slope in slopes[:4].tolist())}). The slopes are "
                "what makes some heads look near and others far; equal ones look at the same distances.",
                subject.locator.module(record.module, record.line),
                "give each head its own slope: 2 ** (-8 * (h + 1) / heads) for head h.",
            )
    return None


def _far(subject: ModelUnderTest, record: AttentionRecord, heads: list[int], to_the_right: bool) -> Finding:
    count = len(record.weights)
    which = "every head gives" if len(heads) == count else f"{len(heads)} of {count} heads give"
    side = " to the right" if to_the_right else ""
    return finding_at(
        "positions",
        "warning",
        f"The bias of the positions has the wrong sign: with equal tokens, {which} more weight to tokens that are "
        f"further away{side}. The model attends to the far end of a text and hardly to the tokens beside it.",
        subject.locator.module(record.module, record.line),
        "subtract a bias that grows with the distance: scores - slope * distance, with distance = |q - k| >= 0.",
    )
