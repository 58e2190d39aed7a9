"""Compute the peak memory of a forward and a backward pass with fake tensors, which have no data.

A model that reads values cannot run on fake tensors: passes of two small batches are measured on real tensors, and
each moment of them is extrapolated linearly, since at a fixed length memory is linear in the number of rows.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.models.losses import Batch, LossParts, TaskLoss
from transformer_foundry.core.models.side_effects import no_side_effects
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.torch_compat import (
    DispatchMode,
    fake_tensor_mode,
    module_tables,
    traceable_transformer_layers,
)
from transformer_foundry.core.training.memory.savings import MemorySavings

__all__ = ["LiveBytes", "Pass", "forget_caches", "pass_peak"]

_FAKE_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, IndexError)

# A single row is a special case to torch: its tensors are contiguous in ways that those of more rows are not.
_MEASURED_ROWS = (2, 3)


@dataclass(frozen=True)
class Pass:
    """A pass through the model and its loss.

    Attributes:
        adapter: The model.
        objective: Its loss.
        precision: Device and number format.
        savings: The savings in use.
        make_batch: Rows -> batch on the CPU.
        trains: Whether there is a backward pass; without one the model is in eval mode.
        label_smoothing: As in training.
        adds_gradients: Whether gradients of an earlier micro-batch exist, to which those of this one are added.
    """

    adapter: nn.Module
    objective: TaskLoss
    precision: Precision
    savings: MemorySavings
    make_batch: Callable[[int], Batch]
    trains: bool = True
    label_smoothing: float = 0.0
    adds_gradients: bool = False

    def loss(self, batch: Batch) -> LossParts:
        """Return the loss as a training step or an evaluation computes it."""
        smoothing = self.label_smoothing if self.trains else 0.0
        return self.objective.loss(self.adapter, batch, label_smoothing=smoothing, with_metrics=not self.trains)


def pass_peak(planned: Pass, rows: int) -> tuple[int, bool]:
    """Return the peak bytes of tensors during a pass, and whether it was computed with fake tensors.

    Parameters, buffers and the gradients of earlier micro-batches do not count; the batch and new gradients do.

    Args:
        planned: The pass.
        rows: Rows of the batch.
    """
    try:
        return max(_simulate(planned, rows)), True
    except _FAKE_ERRORS:
        pass
    small = [_measure(planned, count) for count in _MEASURED_ROWS]
    if len(small[0]) != len(small[1]):  # another number of chunks, for example
        small = [[max(timeline)] for timeline in small]
    more = rows - _MEASURED_ROWS[0]
    return max(first + (second - first) * more for first, second in zip(*small, strict=True)), False


def _simulate(planned: Pass, rows: int) -> list[int]:
    device = planned.precision.device
    with no_side_effects(planned.adapter, train=True), forget_caches(planned.adapter), fake_tensor_mode() as mode:
        batch = {name: _fake(mode, tensor, device) for name, tensor in planned.make_batch(rows).items()}
        with _fake_weights(planned.adapter, mode, device) as weights, traceable_transformer_layers():
            return _run(planned, batch, weights)


def _measure(planned: Pass, rows: int) -> list[int]:
    """Run on real tensors on the current device of the model; existing gradients are restored."""
    weights = list(planned.adapter.parameters())
    device = weights[0].device
    batch = {name: tensor.to(device) for name, tensor in planned.make_batch(rows).items()}
    kept = [weight.grad for weight in weights]
    try:
        with no_side_effects(planned.adapter, train=True):
            for weight in weights:
                weight.grad = None
            return _run(planned, batch, weights)
    finally:
        for weight, gradient in zip(weights, kept, strict=True):
            weight.grad = gradient


def _run(planned: Pass, batch: Batch, weights: list[nn.Parameter]) -> list[int]:
    trainable = [weight for weight in weights if weight.requires_grad]
    if planned.trains and planned.adds_gradients:
        for weight in trainable:
            weight.grad = torch.zeros_like(weight)
    known = [*weights, *planned.adapter.buffers(), *(weight.grad for weight in trainable if weight.grad is not None)]
    live = LiveBytes(weights[0].device, known)
    planned.adapter.train(planned.trains)
    with live, torch.set_grad_enabled(planned.trains):
        with planned.precision.autocast(), planned.savings.active():
            parts = planned.loss(batch)
        if planned.trains:
            parts.trained.backward()
    size = sum(tensor.nbytes for tensor in batch.values())
    return [size + held for held in live.timeline or [0]]


def _fake(mode: Any, tensor: Tensor, device: torch.device) -> Tensor:
    fake = mode.from_tensor(tensor.detach())
    return fake if fake.device.type == device.type else torch.empty_like(fake, device=device)


@contextlib.contextmanager
def _fake_weights(adapter: nn.Module, mode: Any, device: torch.device) -> Iterator[list[nn.Parameter]]:
    """Replace parameters and buffers by fake tensors; tied ones stay tied."""
    tables = [table for module in adapter.modules() for table in module_tables(module)[:2]]
    real = [dict(table) for table in tables]
    made: dict[int, Tensor] = {}

    def fake(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in made:
            found = _fake(mode, tensor, device)
            made[id(tensor)] = nn.Parameter(found, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else found
        return made[id(tensor)]

    try:
        for table in tables:
            table.update({name: fake(tensor) for name, tensor in table.items()})  # type: ignore[misc]
        yield [tensor for tensor in made.values() if isinstance(tensor, nn.Parameter)]
    finally:
        for table, tensors in zip(tables, real, strict=True):
            table.update(tensors)  # type: ignore[arg-type]


_CONTAINERS = (dict, list, set)


@contextlib.contextmanager
def forget_caches(adapter: nn.Module) -> Iterator[None]:
    """Restore what the code of ``adapter`` caches in this context: a fake tensor must not reach a real pass.

    This covers containers and tensors in the modules and classes of the model's code, and ``functools`` caches.
    """
    spaces = _spaces(adapter)
    kept = [{name: value for name, value in vars(space).items() if _is_cache(name, value)} for space in spaces]
    # Plain ones only: transformers' table of activations builds a module for each value that is read, also by a copy.
    contents = [(value, value.copy()) for found in kept for value in found.values() if type(value) in _CONTAINERS]
    try:
        yield
    finally:
        for space, before in zip(spaces, kept, strict=True):
            _restore(space, before)
        for container, content in contents:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)


class _Globals:
    """The globals of a module of code, as attributes."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__ = names


def _spaces(adapter: nn.Module) -> list[Any]:
    """Return the classes of the model's code and the modules of their forward passes, except those of torch."""
    found: dict[int, Any] = {}
    for module in adapter.modules():
        for owner in type(module).__mro__:
            if owner is object or owner.__module__.partition(".")[0] == "torch":
                continue
            found[id(owner)] = owner
            names = getattr(vars(owner).get("forward"), "__globals__", None)
            if names is not None:
                found[id(names)] = _Globals(names)
    return list(found.values())


def _is_cache(name: str, value: Any) -> bool:
    return not name.startswith("__") and (value is None or isinstance(value, (Tensor, *_CONTAINERS)))


def _restore(space: Any, before: dict[str, Any]) -> None:
    for name, value in list(vars(space).items()):
        if callable(getattr(value, "cache_clear", None)):
            value.cache_clear()
        if name in before and value is not before[name]:
            setattr(space, name, before[name])
        elif name not in before and isinstance(value, Tensor):
            delattr(space, name)


class LiveBytes(DispatchMode):
    """Counts, while active, the bytes of the storages that operations allocate, until they are freed.

    Args:
        device: Only tensors on this type of device count.
        known: Tensors that existed before and are not counted.

    Attributes:
        now: Bytes allocated now.
        peak: The most so far.
        timeline: ``now`` after each operation.
    """

    def __init__(self, device: torch.device, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.device_type = device.type
        self.now = self.peak = 0
        self.timeline: list[int] = []
        self._seen: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = None

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``func`` and count the memory of its results."""
        found = func(*args, **kwargs)
        for value in _tensors_of(found):
            if value.device.type == self.device_type:
                self._add(value)
        self.peak = max(self.peak, self.now)
        self.timeline.append(self.now)
        return found

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        self._seen[storage] = None
        size = storage.nbytes()
        self.now += size
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def _tensors_of(result: Any) -> Iterator[Tensor]:
    """Yield the tensors that an operation returned: one, several, or a list among others."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _tensors_of(item)
