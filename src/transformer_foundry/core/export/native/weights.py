"""Weights of the parts of a model as functions of the drawn model's parameters, in the layout of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.export.native.description import Affine, Expr, NormPart, Unlike
from transformer_foundry.core.export.native.parts import Embedding, Linear, Norm, Rows, same
from transformer_foundry.core.export.native.trace import Trace, Value

__all__ = ["Weights", "scaled", "start_of"]


class Weights:
    """Makes expressions of the parameters of a recorded pass.

    Attributes:
        recorded: The parameters of the pass, by name.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.recorded = {name: value.tensor for name, value in trace.parameters.items()}

    def of(self, value: Value) -> Expr:
        """Return ``value``, which depends on parameters only, as a function of them."""
        return lambda parameters: self._trace.of_parameters(value, parameters)

    def matrix(self, linear: Linear) -> Expr:
        """Return the (out, in) weight of a linear layer."""
        return lambda parameters: _last_matrix(self._trace.of_parameters(linear.weight, parameters)).t()

    def affine(self, linear: Linear) -> Affine:
        """Return weight and bias of a linear layer."""
        return Affine(self.matrix(linear), None if linear.bias is None else self._flat(linear.bias))

    def norm(self, norm: Norm) -> NormPart:
        """Return a normalization; a bias or scale that the model does not have is None."""
        weight, bias = (None if item is None else self._flat(item) for item in (norm.weight, norm.bias))
        return NormPart(norm.kind, weight, bias, norm.eps)

    def rows_of(self, linears: Sequence[Linear], layers: Tensor, features: Tensor, factor: float = 1.0) -> Affine:
        """Return the layer whose outputs are chosen features of several layers on the same input.

        Args:
            linears: The layers.
            layers: (F,) which layer each output is of.
            features: (F,) which of its outputs.
            factor: What the outputs are multiplied with.
        """
        sizes = [linear.out.tensor.shape[-1] for linear in linears]
        index = torch.tensor([0, *sizes]).cumsum(0)[layers] + features
        matrices = [self.matrix(linear) for linear in linears]
        weight = scaled(lambda parameters: torch.cat([matrix(parameters) for matrix in matrices])[index], factor)
        if all(linear.bias is None for linear in linears):
            return Affine(weight, None)
        biases = [None if linear.bias is None else self._flat(linear.bias) for linear in linears]

        def bias(parameters: Mapping[str, Tensor]) -> Tensor:
            example = next(iter(parameters.values()))
            parts = [
                example.new_zeros(size) if item is None else item(parameters)
                for item, size in zip(biases, sizes, strict=True)
            ]
            return torch.cat(parts)[index]

        return Affine(weight, scaled(bias, factor))

    def columns_of(self, linear: Linear, index: Tensor) -> Affine:
        """Return a linear layer whose inputs are reordered: input i is what was input ``index[i]``."""
        whole = self.affine(linear)
        return Affine(lambda parameters: whole.weight(parameters)[:, index], whole.bias)

    def _flat(self, value: Value) -> Expr:
        return lambda parameters: self._trace.of_parameters(value, parameters).reshape(-1)


def scaled(expression: Expr, factor: float) -> Expr:
    """Return the expression times a factor, itself if that is one."""
    return expression if abs(factor - 1) < 1e-6 else lambda parameters: expression(parameters) * factor


def start_of(trace: Trace, rows: Rows, embedding: Embedding, first: Tensor) -> dict[str, Any]:
    """Return the fields of a ``Stream`` that say how its first value is made: tokens and positions.

    Args:
        trace: The recorded pass.
        rows: Reads values as (B, T, features).
        embedding: The lookup of the token ids.
        first: (B, T, D), the first value that a layer reads.

    Raises:
        Unlike: If there is more in it.
    """
    weights = Weights(trace)
    names = trace.sources(embedding.table)
    out = rows(embedding.out)
    if out is None or out.shape != first.shape or len(names) != 1:
        raise Unlike("the token embedding is not what the first block reads")
    change, own_change = first[0] - first[1], out[0] - out[1]
    scale = float((change * own_change).sum() / own_change.pow(2).sum())
    rest = first - scale * out
    start = {
        "tokens": weights.of(embedding.table),
        "token_parameter": names[0],
        "token_scale": 1.0 if abs(scale - 1) < 1e-6 else scale,
        "vocab_size": embedding.table.tensor.shape[0],
    }
    if not same(rest, rest[:1].expand_as(rest)):
        raise Unlike("what is added to the token embedding differs between texts")
    added = rest[0]
    if same(added, torch.zeros_like(added)):
        return start
    learned = _learned(weights.recorded, added)
    if learned is not None:
        return start | {"positions": learned[0], "position_count": learned[1]}
    return start | {"fixed_positions": added}


def _learned(parameters: Mapping[str, Tensor], added: Tensor) -> tuple[Expr, int] | None:
    """Return the table whose rows, and perhaps one row of another, are ``added``, and how many rows there are."""
    length, width = added.shape
    for name, tensor in parameters.items():
        if tensor.shape[-1:] != (width,) or tensor.numel() < length * width:
            continue
        table = tensor.reshape(-1, width)
        for offset in range(min(table.shape[0] - length + 1, 8)):
            constant = added[0] - table[offset]
            if not same(table[offset : offset + length] + constant, added):
                continue
            found = _row(parameters, constant, name)
            if found is not None:
                return _table(name, offset, width, found), table.shape[0] - offset
    return None


def _row(parameters: Mapping[str, Tensor], constant: Tensor, table: str) -> tuple[str, int] | None:
    """Return the row of another table that equals ``constant``; an empty name if it is zero."""
    if same(constant, torch.zeros_like(constant)):
        return "", 0
    for name, tensor in parameters.items():
        if tensor.shape[-1:] == constant.shape and name != table:
            rows = tensor.reshape(-1, constant.numel())
            for number in range(min(len(rows), 4)):
                if same(rows[number], constant):
                    return name, number
    return None


def _table(name: str, offset: int, width: int, row: tuple[str, int]) -> Expr:
    def positions(parameters: Mapping[str, Tensor]) -> Tensor:
        table = parameters[name].reshape(-1, width)[offset:]
        return table + parameters[row[0]].reshape(-1, width)[row[1]] if row[0] else table

    return positions


def _last_matrix(tensor: Tensor) -> Tensor:
    return tensor[0] if tensor.ndim == 3 else tensor
