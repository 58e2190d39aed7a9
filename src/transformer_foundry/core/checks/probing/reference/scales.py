"""Weights and formats as in training: activations as large as in trained networks, and autocast as on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.models.side_effects import restore_weights
from transformer_foundry.core.system.torch_compat import base_of

__all__ = ["gpu_autocast", "inactive_units", "large_activations", "shifted_embeddings"]

PRODUCTS = frozenset({"linear", "matmul", "__matmul__", "__rmatmul__", "mm", "einsum", "conv1d", "addmm", "bmm"})
# Operations that autocast runs in float32 on a GPU, but not on a CPU: docs of torch.amp, "CUDA Ops that can autocast".
IN_FLOAT32 = frozenset({
    "pow", "__pow__", "__rpow__", "__rdiv__", "__rtruediv__", "acos", "asin", "cosh", "cosine_similarity", "cumprod",
    "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm", "layer_norm", "log", "log10", "log1p", "log2",
    "log_softmax", "logsumexp", "norm", "normalize", "prod", "reciprocal", "renorm", "rsqrt", "sinh", "softmax",
    "_softmax", "softmin", "softplus", "sum", "tan", "vector_norm", "linalg_vector_norm", "cdist", "rms_norm",
    "cross_entropy", "nll_loss", "mse_loss", "kl_div", "binary_cross_entropy_with_logits", "l1_loss", "smooth_l1_loss",
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "poisson_nll_loss", "soft_margin_loss",
})  # fmt: skip
PROMOTED = frozenset({"__setitem__", "index_put", "index_put_", "scatter_add", "scatter_add_"})


@contextmanager
def large_activations(subject: ModelUnderTest, inputs: Inputs, largest: float) -> Iterator[None]:
    """Scale the weights in this context: the largest result of each matrix product with a weight is ``largest``.

    Generic weights are scaled one product after the other in one forward pass of ``inputs``, so activations do not
    grow with depth. Weights that are embeddings too stay as they are; their products are scaled instead. Parameters
    are restored bit for bit.
    """
    tables = {id(module.weight) for _, module in subject.submodules(nn.Embedding)}
    with generic_weights(subject.model), restore_weights(subject.model.parameters()):
        scaling = _Scaling(largest, tables)
        with scaling:
            subject.logits(inputs)
        with _Factors(scaling.factors):
            yield


class _Scaling(TorchFunctionMode):
    def __init__(self, largest: float, tables: set[int]) -> None:
        super().__init__()
        self.largest, self.tables = largest, tables
        self.done: set[int] = set()
        self.factors: dict[int, float] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        weight = _weight_of_product(func, args, output)
        found = float(output.abs().max()) if weight is not None and output.numel() else 0.0
        if weight is None or not 0 < found < float("inf"):
            return output
        if id(weight) in self.factors:
            return output * self.factors[id(weight)]
        if id(weight) in self.done:
            return output
        factor = self.largest / found
        if id(weight) in self.tables:
            self.factors[id(weight)] = factor
        else:
            self.done.add(id(weight))
            weight.mul_(factor)
        return output * factor


class _Factors(TorchFunctionMode):
    """Multiply the products with some weights."""

    def __init__(self, factors: dict[int, float]) -> None:
        super().__init__()
        self.factors = factors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        weight = _weight_of_product(func, args, output) if self.factors else None
        factor = self.factors.get(id(weight), 1.0)
        return output if factor == 1.0 else output * factor


@contextmanager
def inactive_units(subject: ModelUnderTest) -> Iterator[None]:
    """Use generic weights in this context, and make the results of all matrix products with weights negative or 0.

    A layer whose units are all off for a text is common in trained networks with ReLU.
    """
    with generic_weights(subject.model), _Lowering():
        yield


class _Lowering(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if _weight_of_product(func, args, output) is None or not output.numel():
            return output
        return output - output.detach().amax()


def _weight_of_product(func: Any, args: Any, output: Any) -> Tensor | None:
    """Return the weight if the operation is a matrix product with one."""
    if getattr(func, "__name__", "") not in PRODUCTS or not isinstance(output, Tensor):
        return None
    if not output.is_floating_point():
        return None
    return next((item for item in map(_parameter, _tensors(args)) if item is not None and item.ndim >= 2), None)


def _tensors(args: Any) -> list[Tensor]:
    found = []
    for item in args:
        found += [item] if isinstance(item, Tensor) else _tensors(item) if isinstance(item, tuple | list) else []
    return found


def _parameter(tensor: Tensor) -> Tensor | None:
    """Return the parameter that ``tensor`` is, or is a view of."""
    if isinstance(tensor, nn.Parameter):
        return tensor
    base = base_of(tensor)
    return base if isinstance(base, nn.Parameter) else None


@contextmanager
def shifted_embeddings(subject: ModelUnderTest, shift: float, largest: float) -> Iterator[None]:
    """Use generic weights in this context, and add ``shift`` to the embeddings of tokens, ``largest`` in one channel.

    The residual streams of trained networks have such an offset, and channels of this size in all tokens. A norm that
    subtracts the mean removes the offset.
    """
    tables = [table for _, table in subject.submodules(nn.Embedding)]
    tables = [table for table in tables if table.num_embeddings >= subject.contract.vocab_size]

    def shifted(_table: nn.Module, _ids: Any, output: Tensor) -> Tensor:
        offset = torch.full(output.shape[-1:], shift, dtype=output.dtype)
        offset[-1] = largest
        return output + offset

    handles = [table.register_forward_hook(shifted) for table in tables]
    try:
        with generic_weights(subject.model):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def gpu_autocast(dtype: torch.dtype) -> Iterator[None]:
    """Compute as under autocast on a GPU: matrix products in ``dtype``, sums, powers, norms and softmax in float32."""
    with torch.autocast("cpu", dtype=dtype), _InFloat32():
        yield


class _InFloat32(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in IN_FLOAT32:
            args = tuple(_widened(item) for item in args)
            kwargs = {name: _widened(item) for name, item in (kwargs or {}).items()}
        elif getattr(func, "__name__", "") in PROMOTED and isinstance(args[0], Tensor):
            # A GPU takes the longest of the formats; the tensor that is written to has it, or there is an error anyway.
            args = (args[0], *(_like(item, args[0]) for item in args[1:]))
        return func(*args, **(kwargs or {}))


def _widened(item: Any) -> Any:
    return item.float() if isinstance(item, Tensor) and item.dtype in (torch.float16, torch.bfloat16) else item


def _like(item: Any, target: Tensor) -> Any:
    return item.to(target.dtype) if isinstance(item, Tensor) and item.is_floating_point() else item
