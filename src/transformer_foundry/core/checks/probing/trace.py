"""Trace of a forward pass: every module and operation with its line, its result, and the attention weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from transformer_foundry.core.checks.probing.source_map import SourceLine, SourceMap, current_frame
from transformer_foundry.core.system.torch_compat import disable_function_modes

__all__ = ["Trace", "TracedCall", "first_tensor", "graph_tensors", "record_calls", "tensors_in"]

_DATA_GETTER = Tensor.data.__get__  # type: ignore[attr-defined]
# Operations that take values out of torch: results computed from them have no gradient.
_ESCAPES = frozenset({"tolist", "item", "numpy", "__array__"})
# Not computations: reading an attribute or a size, switching modes.
_IGNORED = frozenset({"__get__", "__set__", "size", "dim", "stride", "_set_grad_enabled", "is_contiguous", "numel"})


@dataclass(frozen=True)
class TracedCall:
    """A call of a module or of an operation.

    Attributes:
        name: Class of the module, or name of the operation.
        module: Path of the module; for an operation, of the innermost module that ran it.
        line: Line of the model's source that called it.
        output: A copy of its first tensor, which later in-place operations do not change.
        raw: The tensor itself, detached; its storage shows where it is used.
        inputs: The tensors it got, detached.
        is_module: Whether it is a module.
        arguments: Positional arguments of an operation that are not tensors, by their index, and its keywords.
    """

    name: str
    module: str
    line: SourceLine | None
    output: Tensor
    raw: Tensor
    inputs: tuple[Tensor, ...] = ()
    is_module: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trace:
    """All calls in one forward pass, in the order in which they returned.

    Attributes:
        calls: The calls.
        called: Paths of the modules that were called.
        cuts: (operation, module, line) of operations with an input that has a gradient and a result that has none.
        learned: Parameters by their id, with (module, line) of their first use.
    """

    calls: list[TracedCall] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    cuts: list[tuple[str, str, SourceLine | None]] = field(default_factory=list)
    learned: dict[int, tuple[Tensor, str, SourceLine | None]] = field(default_factory=dict)

    @property
    def modules(self) -> list[TracedCall]:
        """The calls of modules."""
        return [call for call in self.calls if call.is_module]

    @property
    def operations(self) -> list[TracedCall]:
        """The calls of operations."""
        return [call for call in self.calls if not call.is_module]


@contextmanager
def record_calls(model: nn.Module, source: SourceMap) -> Iterator[Trace]:
    """Record every call of a module or an operation inside the ``with`` block.

    ``nn.MultiheadAttention`` is made to return its weights, so its calls have them as output.
    """
    record = Trace()
    stack: list[str] = [""]
    handles: list[RemovableHandle] = []
    for path, module in model.named_modules():
        handles += _watch(module, path, record, stack, source)
    try:
        with _Recorder(record, stack, source):
            yield record
    finally:
        for handle in handles:
            handle.remove()


def _watch(module: nn.Module, path: str, record: Trace, stack: list[str], source: SourceMap) -> list[RemovableHandle]:
    def enter(_module: nn.Module, _args: Any, _kwargs: Any) -> None:
        stack.append(path)
        record.called.add(path)

    def leave(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if len(stack) > 1:
            stack.pop()
        with disable_function_modes():
            result = first_tensor(output)
            if result is not None:
                line = source.caller(current_frame())
                inputs = tuple(tensors_in((args, kwargs)))
                name = type(_module).__name__
                record.calls.append(TracedCall(name, path, line, result.clone(), result, inputs, is_module=True))

    return [
        module.register_forward_pre_hook(enter, with_kwargs=True),
        module.register_forward_hook(leave, with_kwargs=True),
    ]


class _Recorder(TorchFunctionMode):
    def __init__(self, record: Trace, stack: list[str], source: SourceMap) -> None:
        super().__init__()
        self.record, self.stack, self.source = record, stack, source

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in _IGNORED:
            output = func(*args, **kwargs)
            if func == _DATA_GETTER:
                self._record_cut("data", args, kwargs, output)
            return output
        self._record_parameters((args, kwargs))
        before = tuple(tensors_in((args, kwargs)))
        if name == "multi_head_attention_forward":
            return self._run_attention(func, args, kwargs, before)
        output = func(*args, **kwargs)
        self._record_cut(name, args, kwargs, output)
        self._record_call(name, output, before, args, kwargs)
        return output

    def _record_parameters(self, given: Any) -> None:
        for tensor in graph_tensors(given):
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad and id(tensor) not in self.record.learned:
                line = self.source.caller(current_frame())
                self.record.learned[id(tensor)] = (tensor, self.stack[-1], line)

    def _record_cut(self, name: str, args: Any, kwargs: Any, output: Any) -> None:
        """Record a loss of the gradient: a floating point result has none although an input has one."""
        if name.startswith("new_") or name.endswith("_like") or not _has_gradient((args, kwargs)):
            return
        if _has_gradient(output):
            return
        result = output if isinstance(output, Tensor) else None
        if name in _ESCAPES or (result is not None and result.is_floating_point()):
            if not torch.is_grad_enabled() and not self.record.cuts:
                switch = self.source.gradients_off(current_frame())
                if switch is not None:
                    self.record.cuts.append((name, "", switch))
                    return
            self.record.cuts.append((name, self.stack[-1], self.source.caller(current_frame())))

    def _run_attention(self, func: Any, args: Any, kwargs: dict[str, Any], before: tuple[Tensor, ...]) -> Any:
        wanted, averaged = kwargs.get("need_weights", True), kwargs.get("average_attn_weights", True)
        output, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
        self._record_call("multi_head_attention_forward", weights, before, args, kwargs)
        if not wanted:
            return output, None
        return output, weights.mean(dim=weights.ndim - 3) if averaged else weights

    def _record_call(
        self, name: str, output: Any, before: tuple[Tensor, ...], args: Any, kwargs: dict[str, Any]
    ) -> None:
        result = first_tensor(output)
        if result is None:
            return
        arguments = {str(index): value for index, value in enumerate(args) if not isinstance(value, Tensor)} | kwargs
        line = self.source.caller(current_frame())
        self.record.calls.append(
            TracedCall(name, self.stack[-1], line, result.clone(), result, before, False, arguments)
        )


def _has_gradient(value: Any, depth: int = 3) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, dict):
        value = list(value.values())
    return depth > 0 and isinstance(value, tuple | list) and any(_has_gradient(item, depth - 1) for item in value)


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in a nest of tuples, lists and mappings."""
    return next(iter(tensors_in(value)), None)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in a nest of tuples, lists and mappings, detached."""
    return [tensor.detach() for tensor in graph_tensors(value)]


def graph_tensors(value: Any, depth: int = 4) -> list[Tensor]:
    """Return the tensors in a nest of tuples, lists and mappings, with their gradients' graph."""
    if isinstance(value, Tensor):
        return [value]
    if depth == 0:
        return []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in graph_tensors(item, depth - 1)]
    return []
