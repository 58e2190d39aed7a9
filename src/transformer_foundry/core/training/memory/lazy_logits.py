"""Logits that are computed on first use, and never as a whole if only their loss is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.system.torch_compat import disable_subclass_functions, make_wrapper_tensor
from transformer_foundry.core.training.memory.chunked_cross_entropy import Head, chunked_argmax, chunked_cross_entropy

__all__ = ["LazyLogits", "LogitsUsage"]


class LogitsUsage:
    """How lazy logits were used.

    Args:
        rows: Rows of a chunk; None for ``chunk_rows``.

    Attributes:
        losses: Number of losses computed in chunks.
        wanted_by: Functions that needed the logits themselves, in the order of the calls.
    """

    def __init__(self, rows: int | None = None) -> None:
        self.rows = rows
        self.losses = 0
        self.wanted_by: list[str] = []


class LazyLogits(Tensor):
    """Represents ``head.logits(hidden)``: row-wise operations are recorded, anything else computes the logits.

    Args:
        hidden: (..., D) float.
        head: Computes (..., V) logits.
        usage: Records how they are used.
        dtype: Format of the logits; by default that of ``head`` under the current autocast.
        class_dim: Dimension of the classes: -1, or the one that was exchanged with the last one.
    """

    hidden: Tensor
    head: Head
    usage: LogitsUsage
    class_dim: int
    _real: Tensor | None
    _classes: list[Tensor]

    @staticmethod
    def __new__(
        cls, hidden: Tensor, head: Head, usage: LogitsUsage, dtype: torch.dtype | None = None, class_dim: int = -1
    ) -> LazyLogits:
        """Create a tensor with shape and type, but without storage."""
        device = hidden.device
        shape = [*hidden.shape[:-1], head.weight.size(0)]
        shape[-1], shape[class_dim] = shape[class_dim], shape[-1]
        if dtype is None:
            is_autocast = torch.is_autocast_enabled(device.type)
            dtype = torch.get_autocast_dtype(device.type) if is_autocast else hidden.dtype
        made: LazyLogits = make_wrapper_tensor(
            cls, shape, dtype=dtype, device=device, requires_grad=torch.is_grad_enabled()
        )
        made.hidden, made.head, made.usage, made.class_dim = hidden, head, usage, class_dim
        made._real, made._classes = None, []
        return made

    def compute(self, wanted_by: str) -> Tensor:
        """Return the logits themselves, computed once."""
        if self._real is None:
            self.usage.wanted_by.append(wanted_by)
            logits = self.head.logits(self.hidden)
            self._real = logits if self.class_dim == -1 else logits.transpose(-1, self.class_dim)
        return self._real

    def rows(self) -> Tensor:
        """Return the hidden states as (N, D)."""
        return self.hidden.reshape(-1, self.hidden.size(-1))

    def at(self, hidden: Tensor) -> LazyLogits:
        """Return the logits of other hidden states."""
        return LazyLogits(hidden, self.head, self.usage, self.dtype)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return metadata, record a row-wise operation, compute a loss in chunks, or compute the logits."""
        kwargs = kwargs or {}
        name = _name(func)
        if name in _METADATA:
            with disable_subclass_functions():
                return func(*args, **kwargs)
        values = args if args else (kwargs.get("input"),)
        found = NotImplemented
        if isinstance(values[0], LazyLogits) and values[0]._real is None:
            if name in _ROW_WISE and not kwargs:
                found = _row_wise(func, *args)
            elif name in _HANDLERS:
                found = _HANDLERS[name](*args, **kwargs)
        if found is not NotImplemented:
            return found
        return func(*_computed(args, name), **_computed(kwargs, name))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Raise an error: there is no data, and a silent zero would be a wrong loss."""
        raise RuntimeError(f"{func} needs logits that are not computed; set training.chunked_loss=off.")


def _name(func: Callable[..., Any]) -> str:
    """Return the name of a function; for the getter of an attribute, the name of the attribute."""
    name = str(getattr(func, "__name__", func))
    return str(getattr(getattr(func, "__self__", None), "__name__", name)) if name == "__get__" else name


def _computed(value: Any, wanted_by: str) -> Any:
    """Return ``value`` with lazy logits replaced by logits."""
    if isinstance(value, LazyLogits):
        return value.compute(wanted_by)
    if isinstance(value, dict):
        return {key: _computed(item, wanted_by) for key, item in value.items()}
    return type(value)(_computed(item, wanted_by) for item in value) if type(value) in (tuple, list) else value


def _reshape(logits: LazyLogits, *shape: Any) -> Any:
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    if logits.class_dim != -1 or not sizes or not all(isinstance(size, int) for size in sizes):
        return NotImplemented
    row_count, classes = logits.hidden.numel() // logits.hidden.size(-1), logits.head.weight.size(0)
    lead = sizes[:-1]
    keeps_classes = sizes[-1] == classes or (sizes[-1] == -1 and torch.Size(lead).numel() == row_count)
    return logits.at(logits.hidden.reshape(*lead, logits.hidden.size(-1))) if keeps_classes else NotImplemented


def _flatten(logits: LazyLogits, start_dim: int = 0, end_dim: int = -1) -> Any:
    end = end_dim % logits.dim()
    if logits.class_dim != -1 or end == logits.dim() - 1:
        return NotImplemented
    return logits.at(logits.hidden.flatten(start_dim, end))


def _getitem(logits: LazyLogits, index: Any) -> Any:
    items = index if isinstance(index, tuple) else (index,)
    consumed = sum(item.dim() if _is_mask(item) else 1 for item in items if item is not Ellipsis)
    if logits.class_dim != -1 or any(item is None for item in items):
        return NotImplemented
    is_whole = isinstance(items[-1], slice) and items[-1] == slice(None)
    reaches_classes = consumed >= logits.dim() or (Ellipsis in items[:-1] if _has_no_tensor(items) else consumed == 0)
    return logits.at(logits.hidden[index]) if is_whole or not reaches_classes else NotImplemented


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype is torch.bool


def _has_no_tensor(items: tuple[Any, ...]) -> bool:
    return not any(isinstance(item, Tensor) for item in items)


def _same(logits: LazyLogits, **_: Any) -> Any:
    return logits


def _float(logits: LazyLogits) -> Any:
    if logits.dtype is torch.float32 or logits.class_dim != -1:
        return logits if logits.dtype is torch.float32 else NotImplemented
    found = _record(logits, Tensor.float, (), torch.float32)
    found._classes = logits._classes
    return found


def _to(logits: LazyLogits, *args: Any, **kwargs: Any) -> Any:
    wanted = [*args, *kwargs.values()]
    if wanted == [torch.float32]:
        return _float(logits)
    return logits if wanted in ([logits.dtype], [logits.device]) else NotImplemented


def _transpose(logits: LazyLogits, first: int, second: int) -> Any:
    dims = {first % logits.dim(), second % logits.dim()}
    if logits.class_dim != -1 or logits.dim() != 3 or dims != {1, 2}:
        return NotImplemented
    return LazyLogits(logits.hidden, logits.head, logits.usage, logits.dtype, class_dim=1)


def _permute(logits: LazyLogits, *dims: Any) -> Any:
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return _transpose(logits, 1, 2) if order == (0, 2, 1) else NotImplemented


def _row_wise(func: Any, logits: LazyLogits, *others: Any) -> Any:
    """Record scaling, capping or a bias: with a number, a tensor of one value, or one value for each class."""
    classes = logits.head.weight.size(0)
    for other in others:
        if isinstance(other, Tensor) and not isinstance(other, LazyLogits):
            if other.shape not in (torch.Size([]), torch.Size([1]), torch.Size([classes])):
                return NotImplemented
        elif not isinstance(other, int | float):
            return NotImplemented
    wide = [other.dtype for other in others if isinstance(other, Tensor) and other.dim()]
    dtype = torch.promote_types(logits.dtype, wide[0]) if wide else logits.dtype
    return NotImplemented if logits.class_dim != -1 else _record(logits, func, others, dtype)


def _log_softmax(logits: LazyLogits, dim: int | None = None, **kwargs: Any) -> Any:
    if logits.class_dim != -1 or dim is None or dim % logits.dim() != logits.dim() - 1 or kwargs.get("dtype"):
        return NotImplemented
    return _record(logits, F.log_softmax, (-1,), logits.dtype)


def _record(logits: LazyLogits, func: Any, others: tuple[Any, ...], dtype: torch.dtype) -> LazyLogits:
    head = replace(logits.head, steps=(*logits.head.steps, (func, others, {})))
    return LazyLogits(logits.hidden, head, logits.usage, dtype)


def _argmax(logits: LazyLogits, dim: int | None = None, keepdim: bool = False) -> Any:
    if logits.class_dim != -1 or dim is None or dim % logits.dim() != logits.dim() - 1 or keepdim:
        return NotImplemented
    found = logits._classes[0] if logits._classes else chunked_argmax(logits.rows(), logits.head)
    return found.view(logits.hidden.shape[:-1])


def _cross_entropy(
    logits: LazyLogits,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    is_plain = weight is None and size_average is None and reduce is None and reduction in ("sum", "mean")
    has_classes_in_place = logits.dim() == 2 if logits.class_dim == -1 else logits.class_dim == 1
    if not is_plain or not has_classes_in_place or target.dtype is not torch.int64:
        return NotImplemented
    if target.shape != logits.hidden.shape[:-1]:
        return NotImplemented  # torch raises the error
    steps = list(logits.head.steps)
    while steps and _name(steps[-1][0]) in ("float", "log_softmax"):
        steps.pop()  # the loss is computed in float32 anyway, and log_softmax does not change the softmax
    logits.usage.losses += 1
    loss, classes = chunked_cross_entropy(
        logits.rows(),
        replace(logits.head, steps=tuple(steps)),
        target.reshape(-1),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        rows=logits.usage.rows,
    )
    logits._classes[:] = [] if classes is None else [classes]
    return loss


def _nll_loss(logits: LazyLogits, target: Tensor, *args: Any, **kwargs: Any) -> Any:
    steps = logits.head.steps
    if not steps or _name(steps[-1][0]) != "log_softmax":
        return NotImplemented
    return _cross_entropy(logits, target, *args, **kwargs)


_METADATA = {
    "size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex", "__len__", "element_size",
    "shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_sparse", "is_meta", "requires_grad", "is_leaf",
    "is_nested", "is_quantized", "itemsize", "get_device",
}  # fmt: skip

_ROW_WISE = {
    "mul", "__mul__", "__rmul__", "div", "__truediv__", "true_divide", "add", "__add__", "__radd__", "sub", "__sub__",
    "neg", "__neg__", "tanh",
}  # fmt: skip

_HANDLERS: dict[str, Callable[..., Any]] = {
    "view": _reshape,
    "reshape": _reshape,
    "flatten": _flatten,
    "__getitem__": _getitem,
    "contiguous": _same,
    "float": _float,
    "to": _to,
    "transpose": _transpose,
    "permute": _permute,
    "log_softmax": _log_softmax,
    "argmax": _argmax,
    "cross_entropy": _cross_entropy,
    "nll_loss": _nll_loss,
}
"""Name of a function -> its handler: ``torch.reshape`` and ``Tensor.reshape`` do the same."""
