"""Find attention in a recorded pass: fused operators of torch, and softmax between two products."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.export.native.parts import same
from transformer_foundry.core.export.native.trace import Trace, Value, ancestors
from transformer_foundry.core.system.torch_compat import schema_of

__all__ = ["Core", "Operand", "find_cores"]

_FUSED = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math",
          "_scaled_dot_product_efficient_attention", "_scaled_dot_product_fused_attention_overrideable")  # fmt: skip
# Scores this far below the others have no weight after softmax.
_FORBIDDEN = -1e3


@dataclass(frozen=True)
class Operand:
    """Queries, keys or values of an attention as the model computes them.

    Attributes:
        value: The recorded value.
        heads: Number of heads.
        transposed: Whether the last two dimensions are (d, T).
    """

    value: Value
    heads: int
    transposed: bool = False

    def read(self, tensor: Tensor, batch: int) -> Tensor:
        """Return the (B, H, T, d) view of a tensor of the form of ``value``."""
        tensor = tensor.reshape(batch, -1, *tensor.shape[-2:])
        return tensor.transpose(-1, -2) if self.transposed else tensor


@dataclass(frozen=True)
class Core:
    """Scores, softmax and mixing of values.

    Attributes:
        q: Queries.
        k: Keys.
        v: Values.
        out: The mixed values, (B, H, T, d) or (B * H, T, d).
        scale: Factor of the products of queries and keys.
        allowed: (T, S), which keys a query may see.
        bias: (H, T, S) added to the scores where allowed; None if it is zero.
    """

    q: Operand
    k: Operand
    v: Operand
    out: Value
    scale: float
    allowed: Tensor
    bias: Tensor | None

    @property
    def is_causal(self) -> bool:
        """Whether a query sees the keys up to its own place and no others."""
        rows, columns = self.allowed.shape
        return rows == columns and bool((self.allowed == torch.ones_like(self.allowed).tril()).all())

    @property
    def is_full(self) -> bool:
        """Whether a query sees all keys."""
        return bool(self.allowed.all())


def find_cores(trace: Trace, batch: int) -> list[Core]:
    """Return the attentions of a pass of ``batch`` rows."""
    found: list[Core] = []
    for value in trace.values:
        if value.name in _FUSED and value.pick == 0 and value.on_inputs:
            found += _fused(value, batch)
        elif value.name == "_softmax" and value.on_inputs and value.args[1] in (-1, value.tensor.ndim - 1):
            found += _written_out(value, batch)
    return found


def _fused(value: Value, batch: int) -> Iterator[Core]:
    q, k, v = (item for item in value.args[:3])
    heads, size = q.tensor.shape[1], q.tensor.shape[-1]
    names = [argument.name for argument in schema_of(value.op).arguments]
    given = dict(zip(names, value.args, strict=False)) | dict(value.kwargs)
    scale = given.get("scale")
    shape = (q.tensor.shape[-2], k.tensor.shape[-2])
    mask = given.get("attn_mask") or given.get("attn_bias")
    scores = torch.zeros(batch, heads, *shape, dtype=torch.float64)
    if given.get("is_causal"):
        scores = scores.masked_fill(torch.ones(shape, dtype=torch.bool).triu(1), -math.inf)
    if isinstance(mask, Value):
        scores = scores + _additive(mask.tensor)
    operands = [Operand(item, item.tensor.shape[1]) for item in (q, k, v)]
    core = _core(operands, value, size**-0.5 if scale is None else float(scale), scores)
    if core is not None:
        yield core


def _additive(mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -math.inf)
    return mask.double()


def _written_out(softmax: Value, batch: int) -> Iterator[Core]:
    """Yield the attention around a softmax: scores before it, the product with values after it."""
    mixing = _product_after(softmax)
    if mixing is None:
        return
    products = [value for value in ancestors([softmax]) if value.name in ("bmm", "baddbmm") and _mixes_data(value)]
    if not products:
        return
    product = max(products, key=lambda value: value.order)
    queries, keys = product.parents[-2:]
    heads = softmax.tensor.numel() // (batch * softmax.tensor.shape[-1] * softmax.tensor.shape[-2])
    scores = softmax.parents[0].tensor.double().reshape(batch, heads, *softmax.tensor.shape[-2:])
    q, k = Operand(queries, heads), Operand(keys, heads, transposed=True)
    v = Operand(mixing.parents[-1], heads)
    if any(item.value.tensor.numel() % (batch * heads) for item in (q, k, v)):
        return
    products_of = q.read(queries.tensor, batch) @ k.read(keys.tensor, batch).transpose(-1, -2)
    if products_of.shape != scores.shape:
        return
    kept = (scores > _FORBIDDEN) & torch.isfinite(scores)
    # Whatever is added to the scores is the same for all rows, so differences between rows give the factor.
    both = kept[0] & kept[1]
    change, products_change = (scores[0] - scores[1])[both], (products_of[0] - products_of[1]).double()[both]
    scale = float((change * products_change).sum() / products_change.pow(2).sum())
    rest = torch.where(kept, scores - scale * products_of, scores.clamp(max=_FORBIDDEN))
    core = _core([q, k, v], mixing, scale, rest)
    if core is not None:
        yield core


def _core(operands: Sequence[Operand], out: Value, scale: float, rest: Tensor) -> Core | None:
    """Return the attention with ``rest`` (B, H, T, S) added to its scores, None if it differs between rows."""
    allowed = rest > _FORBIDDEN
    if not bool((allowed == allowed[:1, :1]).all()):
        return None
    bias = torch.where(allowed, rest, 0.0)
    # A constant added to all scores of a query changes nothing, but rounding may.
    if not same(bias, bias[:1].expand_as(bias)):
        return None
    is_zero = bool((bias.abs() < 1e-4).all())
    q, k, v = operands
    return Core(q, k, v, out, scale, allowed[0, 0], None if is_zero else bias[0])


def _mixes_data(value: Value) -> bool:
    return all(item.on_inputs and item.tensor.is_floating_point() for item in value.parents[-2:])


def _product_after(softmax: Value) -> Value | None:
    """Return the first product of the probabilities of ``softmax`` with data."""
    open_values = list(softmax.users)
    while open_values:
        value = min(open_values, key=lambda item: item.order)
        open_values.remove(value)
        if value.name == "bmm":
            return value if _mixes_data(value) and value.tensor.shape[-2] == softmax.tensor.shape[-2] else None
        if value.tensor.numel() == softmax.tensor.numel():
            open_values += value.users
    return None
