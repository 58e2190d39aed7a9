"""Sequences of dynamic length and their indices, under the names that Python and torch give the same things.

For ordinary sizes these functions do what Python does.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Stacked",
    "Steps",
    "Window",
    "candidates_of",
    "enumerate",
    "is_symbolic",
    "put",
    "range",
    "reversed",
    "shaped",
    "steps",
    "take",
    "unbind",
    "window",
    "without_end",
    "wrapped",
    "zip",
]

_CANDIDATES = "_foundry_candidates"


@dataclass(frozen=True)
class Steps:
    """Items of a loop of dynamic length.

    Attributes:
        length: Number of items.
        at: Returns the item at a position, a 0-d tensor or a number.
    """

    length: Any
    at: Callable[[Any], Any]


@dataclass(frozen=True)
class Window:
    """The slice ``start : start + length``, where ``start`` is a 0-d tensor."""

    start: Any
    length: int


@dataclass(frozen=True)
class WithoutEnd:
    """The slice ``start : -number``, where ``number`` is dynamic and may be 0."""

    start: Any
    number: Any


class Stacked:
    """A list that a loop over time has filled, as one tensor whose first dimension is the position.

    Args:
        items: (T, ...) tensor.
    """

    def __init__(self, items: Tensor) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> Any:
        """Return an item, or the items in reverse for ``[::-1]``."""
        if isinstance(index, slice):
            if (index.start, index.stop, index.step) != (None, None, -1):
                raise TypeError("of a list that a loop over time fills, only [::-1] and single items can be taken")
            return Stacked(self.items.flip(0))
        return take(self.items, index)

    def reverse(self) -> None:
        """Reverse the items in place."""
        self.items = self.items.flip(0)


def is_symbolic(items: Any) -> bool:
    """Return whether ``items`` have a dynamic length."""
    return isinstance(items, Steps)


def steps(items: Any) -> Any:
    """Return the items of a loop, as ``Steps`` if their number is dynamic."""
    if isinstance(items, Stacked):
        return unbind(items.items)
    if not isinstance(items, Tensor):
        return items
    possible = getattr(items, _CANDIDATES, None)
    if possible is not None:
        # Entries of a mask of fixed size: which are set depends on values, which exist does not.
        return possible
    return unbind(items) if _varies(items.shape[0]) else items


def candidates_of(mask: Any) -> Any:
    """Return ``mask.nonzero()``, with the entries that it may contain as an attribute."""
    found = mask.nonzero()
    if mask.dim() == 1 and isinstance(mask.shape[0], int) and not isinstance(found.shape[0], int):
        setattr(found, _CANDIDATES, [torch.tensor([entry]) for entry in builtins.range(mask.shape[0])])
    return found


def range(*bounds: Any) -> Any:
    """Return ``range(*bounds)``, as ``Steps`` if a bound is dynamic."""
    if not any(_varies(bound) for bound in bounds):
        return builtins.range(*bounds)
    start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if not isinstance(step, int) or _varies(step):
        raise TypeError("a loop over time whose step varies cannot be captured")
    length = (stop - start + step - 1) // step if step > 0 else (start - stop - step - 1) // -step
    return Steps(length, lambda position: start + position * step)


def reversed(items: Any) -> Any:
    """Return the items in reverse."""
    if isinstance(items, Stacked):
        return items[::-1]
    if not isinstance(items, Steps):
        return builtins.reversed(items)
    return Steps(items.length, lambda position: items.at(items.length - 1 - position))


def enumerate(items: Any, start: int = 0) -> Any:
    """Return pairs of number and item."""
    items = steps(items)
    if not isinstance(items, Steps):
        return builtins.enumerate(items, start)
    return Steps(items.length, lambda position: (start + position, items.at(position)))


def zip(*several: Any, strict: bool = False) -> Any:
    """Return tuples of items."""
    several = tuple(steps(items) for items in several)
    if not all(isinstance(items, Steps) for items in several):
        return builtins.zip(*several, strict=strict)
    return Steps(several[0].length, lambda position: tuple(items.at(position) for items in several))


def unbind(tensor: Any, dim: int = 0) -> Any:
    """Return the slices of a tensor along a dimension."""
    if not isinstance(tensor, Tensor) or not _varies(tensor.shape[dim]):
        return tensor.unbind(dim)
    return Steps(tensor.shape[dim], lambda position: _select(tensor, dim, position))


def window(start: Any, length: Any) -> Any:
    """Return the slice ``start : start + length``."""
    return Window(start, length) if isinstance(start, Tensor) else slice(start, start + length)


def without_end(start: Any, number: Any) -> Any:
    """Return the slice ``start : -number``; 0 removes nothing, where the code's own test skips the slice."""
    return WithoutEnd(start, number) if _varies(number) else slice(start, -number)


def shaped(value: Any, place: Tensor) -> Tensor:
    """Return ``value`` with the shape and type that it gets when it is written into ``place``."""
    return torch.as_tensor(value).to(place.dtype).expand(place.shape)


def take(items: Any, index: Any) -> Any:
    """Return ``items[index]``, where parts of ``index`` may be positions in a loop over time."""
    if isinstance(items, Stacked):
        return items[index]
    if isinstance(items, Steps):
        return items.at(index)
    parts = index if isinstance(index, tuple) else (index,)
    if isinstance(items, Tensor):
        parts = tuple(_shortened(items, parts, number) for number in builtins.range(len(parts)))
    if not isinstance(items, Tensor) or not any(_is_position(part) for part in parts):
        return items[parts if isinstance(index, tuple) else parts[0]]
    taken = items[tuple(slice(None) if _is_position(part) else part for part in parts)]
    for dim, part in builtins.reversed(_positions(parts)):
        taken = _window(taken, dim, part) if isinstance(part, Window) else _select(taken, dim, part)
    return taken


def put(items: Any, index: Any, value: Any) -> Any:
    """Return a copy of ``items`` after ``items[index] = value``."""
    parts = index if isinstance(index, tuple) else (index,)
    if not isinstance(items, Tensor):
        changed: Any = list(items) if isinstance(items, list) else dict(items)
        changed[index] = value
        return changed
    found = [(number, part) for number, part in builtins.enumerate(parts) if _is_position(part)]
    if not found:
        changed = items.clone()
        changed[index] = value
        return changed
    if len(found) > 1 or isinstance(found[0][1], Window):
        raise TypeError("a loop over time can write to one position at a time only")
    number, position = found[0]
    dim = items.dim() - len(parts) + number if Ellipsis in parts[:number] else number
    inner = _select(items, dim, position)
    rest = tuple(part for other, part in builtins.enumerate(parts) if other != number)
    inner = put(inner, rest, value)
    return items.index_copy(dim, wrapped(position, items.shape[dim]), inner.unsqueeze(dim))


def _shortened(items: Tensor, parts: tuple[Any, ...], number: int) -> Any:
    part = parts[number]
    if not isinstance(part, WithoutEnd):
        return part
    dim = number - len(parts) if Ellipsis in parts[:number] else number
    return slice(part.start, items.shape[dim] - part.number)


def _is_position(part: Any) -> bool:
    return isinstance(part, Window) or (isinstance(part, Tensor) and part.dim() == 0 and not part.is_floating_point())


def _positions(parts: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """Return (dimension, position) of each position in an index; the dimension as if it were a full slice."""
    widths = [0 if isinstance(part, int) else 1 for part in parts]
    where = next((number for number, part in builtins.enumerate(parts) if part is Ellipsis), len(parts))
    found = []
    for number, part in builtins.enumerate(parts):
        if _is_position(part):
            found.append((sum(widths[:number]) if number < where else -sum(widths[number:]), part))
    return found


def _select(tensor: Tensor, dim: int, position: Any) -> Tensor:
    if not isinstance(position, Tensor):
        return tensor.select(dim, position)
    return tensor.index_select(dim, wrapped(position, tensor.shape[dim])).squeeze(dim)


def _window(tensor: Tensor, dim: int, window: Window) -> Tensor:
    return tensor.index_select(dim, wrapped(window.start + torch.arange(window.length), tensor.shape[dim]))


def wrapped(position: Any, size: Any) -> Tensor:
    """Return ``position`` as a 1-d tensor that counts from the start, as Python counts negative ones from the end."""
    # The size is a tensor: ONNX has no translation of the remainder by a dynamic size.
    return torch.remainder(torch.as_tensor(position).reshape(-1), torch.full((1,), size, dtype=torch.long))


def _varies(size: Any) -> bool:
    return isinstance(size, torch.SymInt)
