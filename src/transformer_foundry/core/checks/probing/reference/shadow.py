"""Run a model in its own number formats and, beside it, every operation in float64.

The copy in float64 follows the decisions of the run (masks, indices, chosen experts), so the two differ by rounding
alone. Casts to a shorter format do nothing in the copy. A second copy is rounded where a careful implementation rounds
too, at the results of matrix products, norms and sums of activations: its error is the yardstick for that of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.source_map import SourceLine, SourceMap, current_frame
from transformer_foundry.core.system.torch_compat import (
    DispatchMode,
    backward_node_number,
    disable_function_modes,
    forward_node_number,
    pytree,
    schema_of,
)

__all__ = ["PRODUCTS", "WHOLE", "Shadow", "Step", "shadow_run"]

REAL_PARTS = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
FLOATING = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, *REAL_PARTS})
# Results that every implementation stores in the format of the run.
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "addbmm", "convolution", ATTENTION})
ROUNDED = PRODUCTS | {"embedding", "native_layer_norm", "_fused_rms_norm", "native_group_norm", "add", "add_"}
# Operations whose infinities are intended: they make masks.
FILLING = frozenset({
    "full", "full_like", "new_full", "fill", "fill_", "masked_fill", "masked_fill_", "scalar_tensor", "where", "triu",
    "tril", "log",
})  # fmt: skip
WHOLE = "to whole numbers"
# Constants of masks: no measure of the size of a result.
MASK_SIZE = 1e8
SMALLEST = 1e-30
Key = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One operation of a run.

    Attributes:
        name: Name of the operation of ATen, for example ``exp``; ``WHOLE`` for a cast to integers.
        module: Path of the innermost module that ran it, or whose backward pass it belongs to.
        line: Line of the source that called it.
        is_backward: Whether it belongs to the backward pass.
        error: Root mean square of the difference from float64, as a share of that of the result; the largest
            difference for a cast to integers.
        inputs: The inputs in float64.
        overflows: Whether numbers of its result are NaN or infinite that are finite in float64, for the first time.
        is_singular: Whether NaN or infinity appear in float64 too: the formula itself has no finite value.
        yardstick: The same for the copy that is rounded carefully.
        growth: Error of the result by that of the least exact input.
        is_learned: Whether a weight has influence on the result; positions and angles have none.
        hides_overflow: Whether an input has overflowed and the result is finite, as the inverse of infinity is.
    """

    name: str
    module: str
    line: SourceLine | None
    is_backward: bool
    error: float
    inputs: tuple[Tensor, ...]
    overflows: bool = False
    is_singular: bool = False
    yardstick: float = 0.0
    growth: float = 0.0
    is_learned: bool = True
    hides_overflow: bool = False

    @property
    def given(self) -> float:
        """The largest finite absolute value of its inputs, without constants of masks."""
        return max((_largest(item) for item in self.inputs), default=0.0)


@dataclass
class _Copies:
    """The copies of one storage, (N,) float64 each, and what is known about its numbers."""

    exact: Tensor
    careful: Tensor
    error: float = 0.0
    has_nan: bool = False
    has_infinity: bool = False
    is_overflown: bool = False
    is_learned: bool = False  # A weight, or computed from one: not positions and angles.

    def of(self, careful: bool) -> Tensor:
        return self.careful if careful else self.exact


@dataclass
class Shadow(DispatchMode):
    """The copies of one run; the arguments are those of ``shadow_run``, ``steps`` are the operations in order."""

    model: nn.Module
    source: SourceMap
    dtype: torch.dtype | None = torch.float32
    of_weights: bool = True
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._copies: dict[Key, _Copies] = {}
        self._alive: list[Tensor] = []  # Else the address of a storage would be used again.
        self._stack: list[str] = [""]
        self._places: dict[int, tuple[str, SourceLine | None]] = {}
        self._skipped = (
            set() if self.of_weights else {_key(item) for item in self.model.parameters() if _is_float(item)}
        )

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation in the formats of its inputs, and in float64."""
        with disable_function_modes():
            schema = schema_of(func)
            inputs = [item for item in _leaves((args, kwargs)) if _is_float(item)]
            if self._skipped and any(_key(item) in self._skipped for item in inputs):
                return self._skip(func(*args, **kwargs), inputs if schema.is_mutable else [])
            if schema.is_mutable:
                for item in inputs:
                    self._known(item)
            output = func(*args, **kwargs)
            results = [item for item in _leaves(output) if isinstance(item, Tensor) and item.numel()]
            name = schema.name.partition("::")[2]
            if not any(_is_float(item) for item in results):
                if name == "_to_copy" and inputs and results:
                    self._record_whole(results[0], inputs[0])
                return output
            fresh = [item for item in results if _is_float(item) and _key(item) not in self._copies]
            if fresh or schema.is_mutable:  # Otherwise a view of what is known.
                self._follow(func, name, (args, kwargs), output, inputs, fresh)
        return output

    def _skip(self, output: Any, written: list[Tensor]) -> Any:
        results = [item for item in _leaves(output) if _is_float(item)]
        self._alive += results
        self._skipped.update(map(_key, results + written))
        return output

    def reference(self, tensor: Tensor, *, careful: bool = False) -> Tensor:
        """Return the float64 copy of a tensor of the run, or the carefully rounded one."""
        return self._view(tensor, careful)

    def _follow(
        self, func: Any, name: str, given: tuple[Any, Any], output: Any, inputs: list[Tensor], fresh: list[Tensor]
    ) -> None:
        known = [self._known(item) for item in inputs]
        # Attention has the tag for its dropout, which is off.
        if (torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name) or "empty" in name:
            for item in filter(_is_float, _leaves(output)):
                self._copies.pop(_key(item), None)
                self._known(item)
            return
        made = {id(item) for item in fresh}
        for careful in (False, True) if self.dtype is not None else (False,):
            args, kwargs = pytree().tree_map(lambda item, c=careful: self._exact(item, c), given)
            try:
                exact = func(*args, **kwargs)
            except (RuntimeError, NotImplementedError):  # No such kernel for float64: take the result of the run.
                exact = output
            for result, value in zip(_leaves(output), _leaves(exact), strict=True):
                if id(result) in made:
                    self._known(result).is_learned |= any(item.is_learned for item in known)
                    self._store(result, value, name, careful)
        for result in filter(_is_float, _leaves(output)):
            if result.numel():
                self._record(name, result, inputs, known)

    def _exact(self, item: Any, careful: bool) -> Any:
        if isinstance(item, torch.dtype) and item in FLOATING:
            return torch.complex128 if item in REAL_PARTS else torch.float64
        return self._view(item, careful) if _is_float(item) else item

    def _known(self, tensor: Tensor) -> _Copies:
        """Return the copies of the storage of a tensor; numbers that come from outside are exact."""
        key = _key(tensor)
        if key not in self._copies:
            self._alive.append(tensor)
            flat = _flat(tensor).double()
            learned = isinstance(tensor, nn.Parameter)  # Weights are not written to: one copy is enough.
            second = flat if learned or self.dtype is None else flat.clone()
            finite = math.isfinite(float(flat.sum()))
            nan, infinite = (False, False) if finite else (bool(flat.isnan().any()), bool(flat.isinf().any()))
            self._copies[key] = _Copies(flat, second, has_nan=nan, has_infinity=infinite, is_learned=learned)
        return self._copies[key]

    def _view(self, tensor: Tensor, careful: bool) -> Tensor:
        flat = self._known(tensor).of(careful)
        if tensor.dtype in REAL_PARTS:
            flat = torch.view_as_complex(flat.view(-1, 2))
        view = flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        return view.conj() if tensor.is_conj() else view

    def _store(self, result: Tensor, value: Tensor, name: str, careful: bool) -> None:
        view = self._view(result, careful)
        if careful and name in ROUNDED and self._known(result).is_learned and result.dtype not in REAL_PARTS:
            value = value.to(self.dtype).double()
        view.copy_(value)

    def _record(self, name: str, result: Tensor, inputs: list[Tensor], known: list[_Copies]) -> None:
        copies, exact = self._known(result), self._view(result, False)
        values = result.to(exact.dtype)
        error, size = _norm(values - exact), _norm(exact)
        careful = self._view(result, True) if self.dtype is not None else exact
        had_nan, had_infinity = any(i.has_nan for i in known), any(i.has_infinity for i in known)
        overflows = singular = False
        if not error + size < MASK_SIZE:
            finite, small = exact.isfinite() & values.isfinite(), exact.abs() < MASK_SIZE
            overflows = bool((exact.isfinite() & ~values.isfinite()).any())
            copies.has_nan, copies.has_infinity = bool(exact.isnan().any()), bool(exact.isinf().any())
            singular = copies.has_nan and not had_nan
            singular |= copies.has_infinity and not (had_nan or had_infinity or name in FILLING)
            exact, values, careful = (torch.where(finite & small, item, 0) for item in (exact, values, careful))
            error, size = _norm(values - exact), _norm(exact)
        was_overflown = any(item.is_overflown for item in known)
        copies.is_overflown = overflows or (was_overflown and copies.is_overflown)
        copies.error = error / max(size, SMALLEST)
        before = max((item.error for item in known if item is not copies), default=0.0)
        yardstick = _norm(careful - exact) / max(size, SMALLEST) if self.dtype is not None else 0.0
        growth = copies.error / max(before, torch.finfo(self.dtype or torch.float32).eps / 4)
        self._add(
            name, inputs, copies.error, overflows=overflows and not was_overflown, is_singular=singular,
            yardstick=yardstick, growth=growth, is_learned=copies.is_learned,
            hides_overflow=was_overflown and not overflows,
        )  # fmt: skip

    def _record_whole(self, result: Tensor, values: Tensor) -> None:
        exact = self._view(values, False)
        if result.dtype in (torch.int32, torch.int64) and not exact.is_complex() and bool(exact.isfinite().all()):
            error = float((result - exact).abs().max())
            self._add(WHOLE, [values], error)

    def _add(self, name: str, inputs: list[Tensor], error: float, **measured: Any) -> None:
        module, line, is_backward = self._place()
        given = tuple(self._view(item, False) for item in inputs)
        self.steps.append(Step(name, module, line, is_backward, error=error, inputs=given, **measured))

    def _place(self) -> tuple[str, SourceLine | None, bool]:
        number = backward_node_number()
        if number is not None:
            return *self._places.get(number, ("", None)), True
        module, line = self._stack[-1], self.source.caller(current_frame())
        self._places[forward_node_number()] = (module, line)
        return module, line, False

    def _leave(self, *_: object) -> None:
        del self._stack[max(1, len(self._stack) - 1) :]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow which module runs, inside this context."""
        handles = []
        for path, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: self._stack.append(path)))
            handles.append(module.register_forward_hook(self._leave))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def shadow_run(
    model: nn.Module, source: SourceMap, dtype: torch.dtype | None = torch.float32, *, of_weights: bool = True
) -> Iterator[Shadow]:
    """Compute the copies of what runs inside the ``with`` block.

    Args:
        model: The model that runs.
        source: Its source.
        dtype: Format to which the yardstick is rounded, that of the matrix products; None computes no yardstick.
        of_weights: Whether to follow what is computed from weights too; positions and angles are followed always.
    """
    shadow = Shadow(model, source, dtype, of_weights)
    with shadow.watching():
        yield shadow


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [leaf for item in value.values() for leaf in _leaves(item)] if isinstance(value, dict) else [value]


def _is_float(item: object) -> bool:
    return isinstance(item, Tensor) and item.dtype in FLOATING and item.layout is torch.strided and item.numel() > 0


def _key(tensor: Tensor) -> Key:
    width = tensor.element_size() // (2 if tensor.dtype in REAL_PARTS else 1)
    return tensor.untyped_storage().data_ptr(), width


def _flat(tensor: Tensor) -> Tensor:
    """Return all real numbers of the storage of a tensor, (N,), in its format."""
    return torch.tensor([], dtype=REAL_PARTS.get(tensor.dtype, tensor.dtype)).set_(tensor.untyped_storage())


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values))


def _largest(values: Tensor) -> float:
    sizes = values.abs()
    return float(torch.where(sizes < MASK_SIZE, sizes, 0).max()) if values.numel() else 0.0
