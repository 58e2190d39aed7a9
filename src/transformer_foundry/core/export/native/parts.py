"""Find the parts of a transformer in a recorded pass: embeddings, linear layers, normalizations.

A part is known by its operators and values, never by the names of modules or parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.export.native.trace import Trace, Value

__all__ = ["Embedding", "Linear", "Norm", "Rows", "find_embeddings", "find_linears", "find_norms", "same"]

# Random activations that differ by less are the same: some code computes in float32 within a pass in float64.
_TOLERANCE = 2e-5
_LAYOUT = frozenset(
    ("view", "_unsafe_view", "reshape", "clone", "contiguous", "unsqueeze", "squeeze", "expand", "alias", "detach",
     "_to_copy", "t", "transpose", "permute", "native_dropout", "lift_fresh")
)  # fmt: skip
_SAME_ROWS = _LAYOUT - {"t", "transpose", "permute", "expand"}


@dataclass(frozen=True)
class Embedding:
    """A table of rows and the ids that pick them."""

    table: Value
    ids: Value
    out: Value


@dataclass(frozen=True)
class Linear:
    """A product with a matrix of parameters.

    Attributes:
        x: (..., in) input.
        weight: (in, out) matrix, made from parameters only.
        bias: (out,) added to the product; None without one.
        out: (..., out) result.
    """

    x: Value
    weight: Value
    bias: Value | None
    out: Value


@dataclass(frozen=True)
class Norm:
    """A normalization over the last dimension.

    Attributes:
        kind: ``layer`` or ``rms``.
        x: Input.
        out: Result.
        weight: Scale; None without one.
        bias: Added last; None without one.
        eps: Added to the variance, or to the mean square.
    """

    kind: str
    x: Value
    out: Value
    weight: Value | None
    bias: Value | None
    eps: float


class Rows:
    """Reads values as (B, T, features), whichever of the first two comes first in the model.

    Args:
        batch: Rows of the recorded pass.
        lengths: Lengths of its sequences.
    """

    def __init__(self, batch: int, lengths: tuple[int, ...]) -> None:
        self.batch, self.lengths = batch, lengths

    def __call__(self, value: Value) -> Tensor | None:
        """Return the (B, T, F) tensor of ``value``, None if it is of another form."""
        tensor = value.tensor
        if tensor.ndim == 3 and tensor.shape[0] == 1 and value.op is not None:
            tensor = tensor[0]
        if tensor.ndim == 3:
            order = self._order(tensor.shape)
            return None if order is None else tensor if order == "batch" else tensor.transpose(0, 1)
        if tensor.ndim != 2 or tensor.shape[0] % self.batch or tensor.shape[0] // self.batch not in self.lengths:
            return None
        length = tensor.shape[0] // self.batch
        if self._order_of(value) == "sequence":
            return tensor.view(length, self.batch, -1).transpose(0, 1)
        return tensor.view(self.batch, length, -1)

    def _order(self, shape: Sequence[int]) -> str | None:
        if shape[0] == self.batch and shape[1] in self.lengths:
            return "batch"
        return "sequence" if shape[1] == self.batch and shape[0] in self.lengths else None

    def _order_of(self, value: Value) -> str | None:
        """Return which of batch and sequence comes first in the rows of a flattened value."""
        while value.op is not None:
            if value.name in ("mm", "addmm"):
                value = value.parents[-2]
            elif value.parents:
                value = value.parents[0]
            shape = value.tensor.shape
            if len(shape) > 2 and not (len(shape) == 3 and shape[0] == 1):
                # The second dimension may be all heads of all rows.
                return "sequence" if shape[0] in self.lengths and shape[1] % self.batch == 0 else "batch"
        return None


def same(left: Tensor | None, right: Tensor | None) -> bool:
    """Return whether two tensors are equal up to rounding."""
    if left is None or right is None or left.shape != right.shape:
        return False
    scale = 1.0 + float(right.abs().max()) if right.numel() else 1.0
    return bool(((left - right).abs() <= _TOLERANCE * scale).all())


def find_embeddings(trace: Trace) -> list[Embedding]:
    """Return the lookups in tables of parameters."""
    found = []
    for value in trace.values:
        if value.name == "embedding" or (value.name == "index_select" and value.args[1] == 0):
            table, ids = value.parents[0], value.parents[-1]
        elif value.name == "index" and len(value.parents) == 2 and value.parents[0].tensor.ndim == 2:
            table, ids = value.parents
        else:
            continue
        if table.on_parameters and not table.on_inputs and table.tensor.ndim == 2:
            found.append(Embedding(table, ids, value))
    return found


def find_linears(trace: Trace) -> list[Linear]:
    """Return the products of data with matrices of parameters."""
    return [linear for value in trace.values for linear in _linear(value)]


def _linear(value: Value) -> Iterator[Linear]:
    if value.name not in ("mm", "addmm", "bmm", "baddbmm"):
        return
    *bias, x, weight = value.parents
    if not x.on_inputs or not _is_parameters(weight) or not _is_repeated(weight):
        return
    added = bias[0] if bias and _is_parameters(bias[0]) else None
    if bias and added is None:
        return
    out = value
    if added is None:
        out, added = _with_bias(value)
    yield Linear(x, weight, added, out)


def _is_repeated(weight: Value) -> bool:
    """Return whether what is multiplied with is one matrix: not a batch of them, or one that is expanded."""
    return weight.tensor.ndim == 2 or bool((weight.tensor == weight.tensor[:1]).all())


def _is_parameters(value: Value) -> bool:
    return value.on_parameters and not value.on_inputs


def _with_bias(product: Value) -> tuple[Value, Value | None]:
    """Return the value after the addition of a bias that follows a product, and the bias."""
    value, size = product, product.tensor.shape[-1]
    while True:
        following = value.users
        if len(following) == 1 and following[0].name in _SAME_ROWS and following[0].tensor.shape[-1] == size:
            value = following[0]
            continue
        if len(following) == 1 and following[0].name in ("add", "add_"):
            other = next((item for item in following[0].parents if item is not value), None)
            if other is not None and _is_parameters(other) and other.tensor.numel() == size:
                return following[0], other
        return product, None


def find_norms(trace: Trace) -> list[Norm]:
    """Return the normalizations, those of torch and those written out in the model's code."""
    found = []
    for value in trace.values:
        if value.name in ("native_layer_norm", "_fused_rms_norm") and value.pick == 0 and value.on_inputs:
            kind = "layer" if value.name == "native_layer_norm" else "rms"
            weight, bias = value.args[2], value.args[3] if kind == "layer" else None
            eps = value.args[-1]
            if eps is None:
                eps = torch.finfo(value.tensor.dtype).eps
            found.append(Norm(kind, value.parents[0], value, weight, bias, _short(float(eps))))
    known = {norm.out for norm in found}
    for value in trace.values:
        if value.name in ("mul", "mul_") and value.on_inputs and not any(item in known for item in value.parents):
            found += _written_out(value)
    return sorted(found, key=lambda norm: norm.out.order)


def _written_out(product: Value) -> Iterator[Norm]:
    """Yield the normalization whose scale is applied by ``product``."""
    operands = [item for item in product.args if isinstance(item, Value)]
    if len(operands) != 2:
        return
    weights = [item for item in operands if _is_parameters(item)]
    size = product.tensor.shape[-1]
    if len(weights) != 1 or weights[0].tensor.numel() != size or size < 2:
        return
    normal = operands[0] if operands[1] is weights[0] else operands[1]
    if normal.tensor.shape[-1] != size or not normal.tensor.is_floating_point():
        return
    tensor = normal.tensor.double()
    if not 0.2 < float(tensor.pow(2).mean(-1).max()) < 1.01:
        return
    best = _normalized(normal)
    if best is None:
        return
    kind, x, eps = best
    out, bias = product, None
    for user in product.users:
        other = [item for item in user.parents if item is not product]
        if user.name in ("add", "add_") and other and _is_parameters(other[0]) and other[0].tensor.numel() == size:
            out, bias = user, other[0]
    yield Norm(kind, x, out, weights[0], bias, eps)


def _normalized(normal: Value) -> tuple[str, Value, float] | None:
    """Return the nearest value whose normalization is ``normal``, with the kind and the epsilon."""
    best: tuple[str, Value, float] | None = None
    open_values, seen = [normal], {normal}
    while open_values:
        value = open_values.pop(0)
        for parent in value.parents:
            if parent in seen or not parent.on_inputs or not parent.tensor.is_floating_point():
                continue
            seen.add(parent)
            if parent.tensor.shape[-1] not in (1, normal.tensor.shape[-1]):
                continue
            if parent.tensor.shape == normal.tensor.shape:
                found = _relation(parent.tensor.double(), normal.tensor.double())
                if found is not None and _is_nearer(best, found[0], parent):
                    best = (found[0], parent, found[1])
            if len(seen) < 24:
                open_values.append(parent)
    return None if best is None else (best[0], best[1], _stated_epsilon(normal, best[1], best[2]))


def _is_nearer(best: tuple[str, Value, float] | None, kind: str, x: Value) -> bool:
    """Return whether ``x`` is what is normalized: the nearest value, or the one that the nearest is the centered of."""
    if best is None:
        return True
    centered = x.tensor - x.tensor.mean(-1, keepdim=True)
    return best[0] == "rms" and kind == "layer" and same(best[1].tensor, centered)


def _relation(x: Tensor, normal: Tensor) -> tuple[str, float] | None:
    for kind, centered in (("rms", x), ("layer", x - x.mean(-1, keepdim=True))):
        square = centered.pow(2).mean(-1, keepdim=True)
        ratio = (normal * centered).sum(-1, keepdim=True) / (centered.pow(2).sum(-1, keepdim=True) + 1e-30)
        if same(ratio * centered, normal):
            eps = float((1 / ratio.pow(2) - square).median())
            # An epsilon that depends on the row is none: the factor must come from the row's own size.
            if abs(eps) < 1e-2 and same(centered * (square + eps).rsqrt(), normal):
                return kind, max(eps, 0.0)
    return None


def _stated_epsilon(normal: Value, x: Value, measured: float) -> float:
    """Return the constant in the code that is nearest to the measured epsilon: rounding blurs the latter."""
    stated, open_values, seen = [measured], [normal], set()
    while open_values:
        value = open_values.pop()
        if value in seen or value is x:
            continue
        seen.add(value)
        stated += [item for item in value.args if isinstance(item, float) and 0 < item < 1e-2]
        stated += [float(item.tensor) for item in value.parents if item.op is None and item.tensor.numel() == 1]
        open_values += value.parents
    return _short(min(stated[1:] or stated, key=lambda number: abs(number - measured)))


def _short(number: float) -> float:
    """Return a float32 as the decimal number that was written."""
    return float(f"{number:.6g}")
