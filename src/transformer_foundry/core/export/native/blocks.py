"""Describe the two kinds of sublayers: attention and feed-forward networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.export.native.attention import Core, Operand
from transformer_foundry.core.export.native.description import (
    Affine,
    AttentionPart,
    FeedForwardPart,
    NormPart,
    Rotary,
    Unlike,
)
from transformer_foundry.core.export.native.heads import Heads, Shape, read_heads, read_mixture
from transformer_foundry.core.export.native.parts import Linear, Norm, same
from transformer_foundry.core.export.native.trace import Trace
from transformer_foundry.core.export.native.weights import Weights, scaled

__all__ = ["ACTIVATIONS", "activation_of", "attention_part", "feed_forward_part"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "relu2": lambda x: F.relu(x).square(),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "mish": F.mish,
    "leaky_relu": F.leaky_relu,
}
"""Name in transformers -> function."""

# The smallest angle that one position turns a pair by; below it a feature is not rotated.
_SMALLEST_ANGLE = 1e-9


def activation_of(before: Tensor, after: Tensor) -> str:
    """Return the name of the activation that leads from ``before`` to ``after``, empty if it is none of those known."""
    errors = {
        name: float((function(before) - after).abs().max())
        for name, function in ACTIVATIONS.items()
        if same(function(before), after)
    }
    return min(errors, key=lambda name: errors[name], default="")


def feed_forward_part(
    weights: Weights, ups: Sequence[tuple[Linear, Tensor]], down: Linear, hidden: Tensor
) -> FeedForwardPart | None:
    """Return the feed-forward network of one or two layers and the one after them, None if it is none.

    Args:
        weights: Makes the expressions.
        ups: The first layers, with their (B, T, F) results.
        down: The last layer.
        hidden: (B, T, F) input of the last layer.
    """
    size = hidden.shape[-1]
    if len(ups) == 1 and ups[0][1].shape[-1] == size:
        name = activation_of(ups[0][1], hidden)
        if name:
            return FeedForwardPart(weights.affine(ups[0][0]), weights.affine(down), name, size)
    halves = [(linear, out, start) for linear, out in ups for start in range(0, out.shape[-1], size)]
    if len(halves) != 2 or any(out.shape[-1] % size for _, out in ups):
        return None
    for (gate, gate_out, gate_at), (up, up_out, up_at) in (halves, halves[::-1]):
        gate_value, up_value = gate_out[..., gate_at : gate_at + size], up_out[..., up_at : up_at + size]
        errors = {
            name: float((function(gate_value) * up_value - hidden).abs().max())
            for name, function in ACTIVATIONS.items()
            if same(function(gate_value) * up_value, hidden)
        }
        if errors:
            name = min(errors, key=lambda item: errors[item])
            parts = (_slice(weights, up, up_at, size), weights.affine(down), name, size)
            return FeedForwardPart(*parts, gate=_slice(weights, gate, gate_at, size))
    return None


def _slice(weights: Weights, linear: Linear, start: int, size: int) -> Affine:
    index = torch.arange(start, start + size)
    return weights.rows_of([linear], torch.zeros_like(index), index)


def attention_part(
    trace: Trace,
    weights: Weights,
    cores: Sequence[Core],
    layers: tuple[Sequence[Linear], Sequence[Linear]],
    out: Linear,
    norms: Sequence[Norm],
    shape: Shape,
) -> AttentionPart:
    """Return the attention of one sublayer.

    Args:
        trace: The recorded pass.
        weights: Makes the expressions.
        cores: Its attentions: one, or one for each head.
        layers: The linear layers for queries, and those for keys and values.
        out: The layer after it.
        norms: All normalizations of the pass.
        shape: Batch and lengths of the pass.

    Raises:
        Unlike: If heads are cut, rotated or masked in an unknown way.
    """

    def read(operand: Operand, linears: Sequence[Linear]) -> Heads:
        found = read_heads(trace, operand, [linear.out for linear in linears], norms, shape)
        if found is None:
            raise Unlike("its queries, keys and values are not features of linear layers alone")
        return found

    queries = [read(core.q, layers[0]) for core in cores]
    keys, values = ([read(getattr(core, name), layers[1]) for core in cores] for name in ("k", "v"))
    _require_one_kind(cores, queries, keys)
    q, k, v = (_joined(items) for items in (queries, keys, values))
    count, size = q.features.shape
    k, v = (_per_query(item, count) for item in (k, v))
    if v.features.shape[1] != size:
        raise Unlike("its values have another head size than its queries")
    kinds, order, groups = _groups(k, v)
    turn, rotary = _rotary(queries[0].rotation, keys[0].rotation, size)
    mixture = read_mixture(trace, out.x, [core.out for core in cores], shape)
    if mixture is None:
        raise Unlike("the layer after its attention reads something else too")
    columns = _columns(mixture, cores, size)
    factor = cores[0].scale * queries[0].scale * keys[0].scale * math.sqrt(size)
    q_norm, k_norm = (
        _head_norm(weights, item, size, turn, number) for item, number in ((queries[0], factor), (keys[0], 1.0))
    )
    rows = [
        (item.layers[heads][:, places].reshape(-1), item.features[heads][:, places].reshape(-1))
        for item, heads, places in ((q, order, turn), (k, kinds, turn), (v, kinds, torch.arange(size)))
    ]
    core = cores[0]
    return AttentionPart(
        weights.rows_of(layers[0], *rows[0], factor=1.0 if q_norm else factor),
        weights.rows_of(layers[1], *rows[1]),
        weights.rows_of(layers[1], *rows[2], factor=values[0].scale),
        weights.columns_of(out, columns[order].reshape(-1)),
        count,
        groups,
        size,
        core.is_causal,
        rotary,
        q_norm,
        k_norm,
        None if core.bias is None else core.bias[order],
    )


def _require_one_kind(cores: Sequence[Core], queries: Sequence[Heads], keys: Sequence[Heads]) -> None:
    first = cores[0]
    if not first.is_causal and not first.is_full:
        raise Unlike("its attention is neither causal nor over all tokens")
    for core, q, k in zip(cores, queries, keys, strict=True):
        factor = core.scale * q.scale * k.scale / (first.scale * queries[0].scale * keys[0].scale)
        if not torch.equal(core.allowed, first.allowed) or abs(factor - 1) > 1e-5:
            raise Unlike("its heads differ in mask or scale")
        if (core.bias is None) != (first.bias is None) or (core.bias is not None and len(cores) > 1):
            raise Unlike("its heads differ in what is added to the scores")


def _joined(items: Sequence[Heads]) -> Heads:
    first = items[0]
    return Heads(
        torch.cat([item.layers for item in items]),
        torch.cat([item.features for item in items]),
        first.scale,
        first.rotation,
    )


def _per_query(item: Heads, heads: int) -> Heads:
    """Return the keys or values of each query head."""
    repeat, rest = divmod(heads, item.features.shape[0])
    if rest:
        raise Unlike("its key heads do not divide its query heads")
    return Heads(
        item.layers.repeat_interleave(repeat, 0), item.features.repeat_interleave(repeat, 0), item.scale, item.rotation
    )


def _groups(k: Heads, v: Heads) -> tuple[Tensor, Tensor, int]:
    """Return one query head of each group, the order of query heads by group, and the number of groups."""
    both = torch.cat([k.layers, k.features, v.layers, v.features], 1).tolist()
    kinds: dict[tuple[int, ...], list[int]] = {}
    for head, row in enumerate(both):
        kinds.setdefault(tuple(row), []).append(head)
    if len({len(group) for group in kinds.values()}) != 1:
        raise Unlike("its key heads serve different numbers of query heads")
    firsts = torch.tensor([group[0] for group in kinds.values()])
    order = torch.tensor([head for group in kinds.values() for head in group])
    return firsts, order, len(kinds)


def _columns(mixture: tuple[Tensor, Tensor], cores: Sequence[Core], size: int) -> Tensor:
    """Return (H, d): at which input of the layer after the attention each feature of each head is."""
    heads = [core.q.heads for core in cores]
    starts = torch.tensor([0, *heads]).cumsum(0)
    places = starts[mixture[0]] * size + mixture[1]
    if sorted(places.tolist()) != list(range(sum(heads) * size)):
        raise Unlike("the layer after its attention does not read each head once")
    return torch.argsort(places).view(-1, size)


def _head_norm(weights: Weights, heads: Heads, size: int, turn: Tensor, factor: float) -> NormPart | None:
    if heads.norm is None or heads.norm_features is None:
        return None
    part = weights.norm(heads.norm)
    places = heads.norm_features % size
    if heads.norm.out.tensor.shape[-1] != size or not bool((places == places[:1]).all()):
        raise Unlike("its queries are normalized over all heads together")
    index = places[0][turn]
    weight, bias = (
        None if item is None else scaled(lambda parameters, item=item: item(parameters)[index], factor)  # type: ignore[misc]
        for item in (part.weight, part.bias)
    )
    return NormPart(part.kind, weight, bias, part.eps)


def _rotary(queries: Tensor | None, keys: Tensor | None, size: int) -> tuple[Tensor, Rotary | None]:
    """Return the order of a head's features that makes the rotation one of halves, and its frequencies."""
    if queries is None and keys is None:
        return torch.arange(size), None
    if queries is None or keys is None or not same(queries, keys):
        raise Unlike("its queries and keys are not rotated alike")
    step = queries[1].double()
    angles: list[tuple[float, int, int]] = []
    for first in range(size):
        sine, second = step[:, first].clone().index_fill(0, torch.tensor(first), -1.0).max(0)
        if float(sine) > _SMALLEST_ANGLE:
            angles.append((math.atan2(float(sine), float(step[first, first])), first, int(second)))
    angles.sort(key=lambda item: -item[0])
    pairs = [index for _, first, second in angles for index in (first, second)]
    if not angles or len(set(pairs)) != len(pairs):
        raise Unlike("positions change its queries by more than a rotation of pairs")
    still = [index for index in range(size) if index not in pairs]
    turn = torch.tensor([item[1] for item in angles] + [item[2] for item in angles] + still)
    if abs(angles[0][0] - 1) > 1e-4:
        raise Unlike("its first rotation is not one radian a position")
    theta = angles[1][0] ** -len(angles) if len(angles) > 1 else 10000.0
    return turn, Rotary(len(pairs), _rounded(theta))


def _rounded(theta: float) -> float:
    """Return the number of few digits that ``theta`` is a float32 of, itself if there is none."""
    short = float(f"{theta:.3g}")
    return short if abs(short / theta - 1) < 1e-3 else theta
