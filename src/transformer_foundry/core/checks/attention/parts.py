"""Queries, keys and values of each attention in a trace, however the model computes the attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from transformer_foundry.core.checks.attention.weights import SOFTMAX
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import Trace, TracedCall

__all__ = ["AttentionParts", "attention_parts"]

PRODUCTS = ("matmul", "__matmul__", "bmm", "einsum", "baddbmm")
# Operations between the softmax and the product with the values, which keep the weights in their place.
KEEPING = ("dropout", "to", "type_as", "float", "half", "contiguous", "masked_fill", "nan_to_num", "view", "reshape")


@dataclass(frozen=True)
class AttentionParts:
    """One attention of a traced call of B samples.

    Attributes:
        module: Path of the module that ran it.
        line: Line that called it.
        query: (B, H, T, D).
        key: (B, H, S, D); heads that share a key have a copy each.
        value: (B, H, S, D).
        number: Index of the operation in ``Trace.operations``.
    """

    module: str
    line: SourceLine | None
    query: Tensor
    key: Tensor
    value: Tensor
    number: int


def attention_parts(trace: Trace, batch: int) -> list[AttentionParts]:
    """Return the attentions of a trace of ``batch`` samples whose parts are known, in the order in which they ran."""
    found = []
    operations = trace.operations
    for number, call in enumerate(operations):
        parts = _given(call) or _multiplied(operations, number)
        if parts is None:
            continue
        query, key, value = (_by_head(part, batch) for part in parts)
        if query is None or key is None or value is None or key.shape[2] != value.shape[2]:
            continue
        heads = max(query.shape[1], key.shape[1], value.shape[1])
        if all(heads % part.shape[1] == 0 for part in (query, key, value)):
            query, key, value = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (query, key, value))
            found.append(AttentionParts(call.module, call.line, query, key, value, number))
    return found


def _given(call: TracedCall) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the parts that a fused attention gets."""
    if call.name == "scaled_dot_product_attention" and len(call.inputs) >= 3:
        return call.inputs[0], call.inputs[1], call.inputs[2]
    if call.name == "multi_head_attention_forward" and all(part.ndim == 3 for part in call.inputs[:3]):
        query, key, value = (part.transpose(0, 1).unsqueeze(1) for part in call.inputs[:3])
        return query, key, value
    return None


def _multiplied(operations: list[TracedCall], number: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the parts of an attention that the model multiplies itself: softmax(q k^T) v."""
    softmax = operations[number]
    if softmax.name not in SOFTMAX or softmax.output.ndim < 3 or not softmax.inputs:
        return None
    scores = softmax.inputs[0]
    before = [call for call in operations[max(0, number - 40) : number] if call.module == softmax.module]
    products = [call for call in before if call.name in PRODUCTS and call.output.shape == scores.shape]
    if len(products) != 1 or len(products[0].inputs) < 2:
        return None  # Several products are added, as for relative positions: none is the queries and keys alone.
    weighted = _weighted_sum(softmax, operations[number + 1 : number + 20])
    factors = _factors(products[0])
    if weighted is None or factors is None:
        return None
    query, key = factors
    return query, key.transpose(-1, -2) if products[0].name != "einsum" else key, weighted


def _factors(product: TracedCall) -> tuple[Tensor, Tensor] | None:
    left, right = product.inputs[-2:]
    if product.name != "einsum":
        return left, right
    letters = _letters(product)
    if letters is None:
        return None
    one, other, result = letters
    row, column, shared = result[-2], result[-1], set(one) & set(other) - set(result)
    if row in other or column not in other or len(shared) != 1:
        return None
    inner = shared.pop()
    return _ordered(left, one, result, row, inner), _ordered(right, other, result, column, inner)


def _weighted_sum(softmax: TracedCall, later: list[TracedCall]) -> Tensor | None:
    """Return the values that the weights multiply, (..., S, D)."""
    current = softmax.raw
    for call in later:
        if not any(tensor.data_ptr() == current.data_ptr() for tensor in call.inputs):
            continue
        if call.name in KEEPING:
            current = call.raw
        elif call.name not in PRODUCTS or len(call.inputs) != 2 or call.inputs[0].data_ptr() != current.data_ptr():
            return None
        elif call.name != "einsum":
            return call.inputs[1]
        else:
            letters = _letters(call)
            if letters is None or letters[0][-1] not in letters[1] or letters[0][-1] in letters[2]:
                return None
            one, other, _ = letters
            inner = [letter for letter in other if letter not in one]
            return _ordered(call.inputs[1], other, one, one[-1], inner[0]) if len(inner) == 1 else None
    return None


def _letters(call: TracedCall) -> tuple[str, str, str] | None:
    equation = str(call.arguments.get("0", "")).replace(" ", "")
    sources, _, result = equation.partition("->")
    one, _, other = sources.partition(",")
    return (one, other, result) if one and other and len(result) > 1 and "." not in equation else None


def _ordered(tensor: Tensor, letters: str, like: str, row: str, column: str) -> Tensor:
    """Return ``tensor`` with its batch and head axes in the order of ``like``, then ``row`` and ``column``."""
    first = [letter for letter in like if letter in letters and letter not in (row, column)]
    order: Sequence[str] = [*first, row, column]
    if sorted(order) != sorted(letters):
        return tensor.new_zeros(0, 0, 0)
    return tensor.permute([letters.index(letter) for letter in order])


def _by_head(part: Tensor, batch: int) -> Tensor | None:
    """Return (B, H, T, D); None for other forms."""
    if part.ndim == 3 and part.shape[0] and part.shape[0] % batch == 0:
        return part.reshape(batch, -1, *part.shape[1:]).float()
    if part.ndim >= 4 and part.shape[0] == batch:
        return part.reshape(batch, -1, *part.shape[-2:]).float()
    return None
