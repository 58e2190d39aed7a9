"""Attention weights of a forward pass, however the model computes them."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import Trace, TracedCall

__all__ = ["SOFTMAX", "AttentionRecord", "attention_records"]

SOFTMAX = ("softmax", "_softmax")


@dataclass(frozen=True)
class AttentionRecord:
    """Weights of one attention in one forward pass.

    Attributes:
        module: Path of the module that ran it.
        line: Line that called it.
        weights: (N, Q, K) float, one matrix per sample and head; each row should sum to 1.
        heads: Number of heads; None if unknown.
        over_keys: Whether the softmax ran over the last axis.
    """

    module: str
    line: SourceLine | None
    weights: Tensor
    heads: int | None
    over_keys: bool = True


def attention_records(trace: Trace, lengths: Container[int]) -> list[AttentionRecord]:
    """Return the attention of a trace of one sample, in the order in which it ran.

    Args:
        trace: The trace.
        lengths: Allowed numbers of queries and keys; matrices of other shapes are not attention over the sequence.
    """
    records = []
    for call in trace.operations:
        if call.name == "scaled_dot_product_attention" and len(call.inputs) >= 3:
            records.append(_record(call, _weights(call)))
        elif call.name == "multi_head_attention_forward":
            records.append(_record(call, call.output))
        elif call.name in SOFTMAX and call.output.ndim >= 3 and min(call.output.shape[-2:]) > 1:
            records.append(_record(call, call.output, _is_last_axis(call)))
    return [record for record in records if all(size in lengths for size in record.weights.shape[-2:])]


def _record(call: TracedCall, weights: Tensor, over_keys: bool = True) -> AttentionRecord:
    heads = math.prod(weights.shape[1:-2]) if weights.ndim >= 4 else None
    return AttentionRecord(call.module, call.line, weights.reshape(-1, *weights.shape[-2:]).float(), heads, over_keys)


def _is_last_axis(call: TracedCall) -> bool:
    axis = call.arguments.get("dim", call.arguments.get("1", -1))
    return axis is None or axis in (-1, call.output.ndim - 1)


def _weights(call: TracedCall) -> Tensor:
    """Return softmax(q k^T scale + mask), which ``scaled_dot_product_attention`` computes internally."""
    query, key = call.inputs[0].float(), call.inputs[1].float()
    arguments = call.arguments
    mask = _mask(call)
    if key.shape[-3] != query.shape[-3] and query.ndim >= 3:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scale = arguments.get("scale") or 1 / math.sqrt(query.shape[-1])
    scores = query @ key.transpose(-1, -2) * scale
    if arguments.get("is_causal", arguments.get("5", False)):
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1)


def _mask(call: TracedCall) -> Tensor | None:
    """Return the mask, which is the fourth tensor."""
    return call.inputs[3] if len(call.inputs) > 3 else None
