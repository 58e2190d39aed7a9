"""Check that heads are split and merged along the right axes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["check_head_split"]

RESHAPING = frozenset({"view", "reshape", "_unsafe_view", "unflatten", "flatten", "reshape_as", "view_as"})


def check_head_split(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that no reshape moves the axis of positions, as from (B, T, D) to (B, heads, T, width)."""
    for call in subject.trace.operations:
        if call.name not in RESHAPING or not call.inputs:
            continue
        before, after = call.inputs[0].shape, call.output.shape
        if any(_moves_positions(before, after, length) for length in subject.lengths):
            yield _mixed(subject, call, before, after)
            return


def _moves_positions(before: torch.Size, after: torch.Size, length: int) -> bool:
    """Return whether one shape is (1, T, D) and the other has heads before T, with D split among them."""
    if before.count(length) != 1 or after.count(length) != 1:
        return False
    flat, split = (before, after) if len(before) == 3 and before[:2] == (1, length) else (after, before)
    if len(flat) != 3 or flat[:2] != (1, length):
        return False
    axis = split.index(length)
    heads, width = math.prod(split[:axis]), math.prod(split[axis + 1 :])
    return heads > 1 and heads * width == flat[2]


def _mixed(subject: ModelUnderTest, call: TracedCall, before: torch.Size, after: torch.Size) -> Finding:
    splits = len(before) == 3
    action = "split into" if splits else "merged from"
    right = (
        "split heads with .view(B, T, heads, width).transpose(1, 2)"
        if splits
        else "merge heads with .transpose(1, 2).reshape(B, T, heads * width)"
    )
    return finding_at(
        "heads",
        "error",
        f"Heads are {action} the wrong axes: {call.name} reads {tuple(before)} as {tuple(after)} without transposing "
        "axes, so values of different positions end up in one vector. Each head then gets a part of the text with "
        "mixed positions, and positions see tokens that they must not see.",
        subject.locator.at(call.line, call.module),
        f"{right}: a reshape alone does not move an axis.",
    )
