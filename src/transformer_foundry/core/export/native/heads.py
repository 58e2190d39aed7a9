"""Read how the heads of an attention are cut out of linear layers, normalized, and rotated by positions.

The way from the layers to the heads is computed again with coded numbers in place of the layers' results: where a code
comes out is where that feature goes, however the model reshapes, splits, repeats and reorders it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.export.native.attention import Operand
from transformer_foundry.core.export.native.parts import Norm, same
from transformer_foundry.core.export.native.trace import Trace, Value

__all__ = ["Heads", "Shape", "read_heads", "read_mixture"]

# Codes are whole numbers below 2**24, which float32 holds exactly; each layer has its own range.
_RANGE = 2**16
_MOST_SOURCES = 200


@dataclass(frozen=True)
class Shape:
    """Batch and lengths of the recorded pass, which no other dimension of the model should equal."""

    batch: int
    lengths: tuple[int, ...]

    def feature_dims(self, shape: Sequence[int]) -> list[int]:
        """Return the dimensions of a tensor that are neither batch nor sequence."""
        dims = list(range(len(shape)))
        together = [dim for dim in dims[:-1] if shape[dim] in [self.batch * length for length in self.lengths]]
        if together:
            dims.remove(together[0])
            return dims
        sequence = [dim for dim in dims[:-1] if shape[dim] in self.lengths]
        batch = [dim for dim in dims[:2] if shape[dim] == self.batch and dim not in sequence[:1]]
        for dim in sequence[:1] + batch[:1]:
            dims.remove(dim)
        return dims

    def codes(self, tensor: Tensor, start: int = 0) -> Tensor:
        """Return a tensor of the same form whose entries are ``start`` plus the number of their feature."""
        dims = self.feature_dims(tensor.shape)
        sizes = [tensor.shape[dim] for dim in dims]
        numbers = torch.arange(start, start + _product(sizes), dtype=tensor.dtype)
        form = [size if dim in dims else 1 for dim, size in enumerate(tensor.shape)]
        return numbers.view(form).expand(tensor.shape).contiguous()

    def first(self, tensor: Tensor) -> Tensor:
        """Return the features of the first position of the first row as a list."""
        dims = self.feature_dims(tensor.shape)
        return tensor[tuple(slice(None) if dim in dims else 0 for dim in range(tensor.ndim))].reshape(-1)


@dataclass(frozen=True)
class Heads:
    """Where the heads of an operand come from.

    Attributes:
        layers: (H, d) which of the sources.
        features: (H, d) which feature of that source.
        scale: Factor between the sources and the operand.
        rotation: (T, d, d) linear map of the first head at each position, None without one.
        norm: Normalization between the sources and the operand.
        norm_features: (H, d) which feature of the normalized tensor.
    """

    layers: Tensor
    features: Tensor
    scale: float
    rotation: Tensor | None
    norm: Norm | None = None
    norm_features: Tensor | None = None


def read_heads(
    trace: Trace, operand: Operand, sources: Sequence[Value], norms: Sequence[Norm], shape: Shape
) -> Heads | None:
    """Return how ``operand`` is cut out of ``sources``, the results of linear layers; None if in no known way."""
    read: Callable[[Tensor], Tensor] = lambda tensor: operand.read(tensor, shape.batch)  # noqa: E731
    between = set(trace.between(sources, operand.value))
    inner_norms = [norm for norm in norms if norm.out in between and norm.x in between | set(sources)]
    if len(inner_norms) > 1:
        return None
    if not inner_norms:
        found = _places(trace, operand.value, sources, lambda tensor: read(tensor)[0, :, 0], shape)
        if found is None:
            return None
        rotation = _rotation(trace, operand.value, sources, found, read, shape)
        return Heads(found.layers, found.features, found.scale, rotation)
    norm = inner_norms[0]
    inner = _places(trace, norm.x, sources, shape.first, shape)
    outer = _places(trace, operand.value, [norm.out], lambda tensor: read(tensor)[0, :, 0], shape)
    if inner is None or outer is None or abs(inner.scale - 1) > 1e-6:
        return None
    rotation = _rotation(trace, operand.value, [norm.out], outer, read, shape)
    places = outer.features
    return Heads(inner.layers[places], inner.features[places], outer.scale, rotation, norm, places)


def read_mixture(trace: Trace, target: Value, sources: Sequence[Value], shape: Shape) -> tuple[Tensor, Tensor] | None:
    """Return (F,) which source and (F,) which of its features (head * d + place) each feature of ``target`` is.

    Args:
        trace: The recorded pass.
        target: Input of the layer after the attention.
        sources: The mixed values of its heads, (B, H, T, d) or (B * H, T, d).
        shape: Batch and lengths of the pass.
    """
    given = {}
    for number, source in enumerate(sources):
        tensor = source.tensor
        heads = tensor.numel() // (shape.batch * tensor.shape[-1] * tensor.shape[-2])
        numbers = torch.arange(heads * tensor.shape[-1], dtype=tensor.dtype).view(1, heads, 1, -1)
        filled = (numbers + (number + 1) * _RANGE).expand(shape.batch, heads, *tensor.shape[-2:])
        given[source] = filled.reshape(tensor.shape)
    codes = trace.evaluate(target, given).reshape(-1, target.tensor.shape[-1])
    if not same(codes, codes[:1].expand_as(codes)) or not same(codes.round(), codes):
        return None
    numbers = codes[0].round().long()
    layers = torch.div(numbers, _RANGE, rounding_mode="floor") - 1
    return (layers, numbers % _RANGE) if int(layers.min()) >= 0 else None


@dataclass(frozen=True)
class _Places:
    layers: Tensor
    features: Tensor
    scale: float


def _places(
    trace: Trace, target: Value, sources: Sequence[Value], read: Callable[[Tensor], Tensor], shape: Shape
) -> _Places | None:
    if len(sources) > _MOST_SOURCES:
        return None
    zeros = {source: torch.zeros_like(source.tensor) for source in sources}
    ones = {source: torch.ones_like(source.tensor) for source in sources}
    coded = {source: shape.codes(source.tensor, at * _RANGE) for at, source in enumerate(sources, 1)}
    nothing, factors, codes = (read(trace.evaluate(target, given)) for given in (zeros, ones, coded))
    scale = float(factors.flatten()[0])
    if bool(nothing.any()) or scale == 0 or not same(factors, torch.full_like(factors, scale)):
        return None
    numbers = (codes.double() / scale).round().long()
    if not same(numbers.double() * scale, codes.double()) or int(numbers.min()) < _RANGE:
        return None
    layers = torch.div(numbers, _RANGE, rounding_mode="floor") - 1
    return _Places(layers, numbers % _RANGE, scale)


def _rotation(
    trace: Trace,
    target: Value,
    sources: Sequence[Value],
    places: _Places,
    read: Callable[[Tensor], Tensor],
    shape: Shape,
) -> Tensor | None:
    """Return the (T, d, d) map of the first head from layer to operand at each position, None if it is the same."""
    coded = {source: shape.codes(source.tensor, at * _RANGE) for at, source in enumerate(sources, 1)}
    codes = read(trace.evaluate(target, coded))[0]
    if same(codes, codes[:, :1].expand_as(codes)):
        return None
    columns = []
    for layer, feature in zip(places.layers[0].tolist(), places.features[0].tolist(), strict=True):
        given = {source: torch.zeros_like(source.tensor) for source in sources}
        is_it = shape.codes(sources[layer].tensor) == feature
        given[sources[layer]] = is_it.to(sources[layer].tensor.dtype) / places.scale
        columns.append(read(trace.evaluate(target, given))[0, 0])
    return torch.stack(columns, -1)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
