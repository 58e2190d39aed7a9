"""What a rewritten loop calls: the steps of a loop over time, and the loop itself as an operator of the graph.

A Python loop over a size that may vary cannot be unrolled into a graph. ``rewriting`` turns such a loop into calls of
this module; where the size is an ordinary number they do what Python does. The names are those that Python and torch
give the same things.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.system.torch_compat import disable_proxy_tracing, pytree, scan

__all__ = [
    "MISSING",
    "Stacked",
    "Steps",
    "Window",
    "before",
    "candidates_of",
    "comprehend",
    "enumerate",
    "is_symbolic",
    "join",
    "loop",
    "put",
    "range",
    "reversed",
    "shaped",
    "steps",
    "take",
    "unbind",
    "window",
    "without_end",
    "zip",
]

MISSING = object()
"""Stands for a variable that has no value before the loop."""

_CANDIDATES = "_foundry_candidates"


@dataclass(frozen=True)
class Steps:
    """Items of a loop whose number may vary.

    Attributes:
        length: Their number.
        at: Gives the item at a position, a tensor without dimensions or a number.
    """

    length: Any
    at: Callable[[Any], Any]


@dataclass(frozen=True)
class Window:
    """The slice ``start : start + length``, where ``start`` is a tensor without dimensions."""

    start: Any
    length: int


@dataclass(frozen=True)
class WithoutEnd:
    """The slice ``start : -number``, where ``number`` may vary and may become 0."""

    start: Any
    number: Any


class Stacked:
    """The list that a loop over time has filled, as one tensor whose first dimension is the position.

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
    """Return whether the number of ``items`` may vary."""
    return isinstance(items, Steps)


def steps(items: Any) -> Any:
    """Return what a loop goes over, as ``Steps`` where its number may vary."""
    if isinstance(items, Stacked):
        return unbind(items.items)
    if not isinstance(items, Tensor):
        return items
    possible = getattr(items, _CANDIDATES, None)
    if possible is not None:
        # Entries of a mask of fixed size: whether an entry is set depends on values, what there may be does not.
        return possible
    return unbind(items) if _varies(items.shape[0]) else items


def candidates_of(mask: Any) -> Any:
    """Return ``mask.nonzero()``, with a note on which entries it may hold."""
    found = mask.nonzero()
    if mask.dim() == 1 and isinstance(mask.shape[0], int) and not isinstance(found.shape[0], int):
        setattr(found, _CANDIDATES, [torch.tensor([entry]) for entry in builtins.range(mask.shape[0])])
    return found


def range(*bounds: Any) -> Any:
    """Return ``range(*bounds)``, or its steps where a bound may vary."""
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


def comprehend(make: Callable[[Any], Any], items: Iterable[Any]) -> Any:
    """Return ``[make(item) for item in items]``."""
    items = steps(items)
    if not isinstance(items, Steps):
        return [make(item) for item in items]
    made: list[Any] = []
    return loop(lambda _, item: ((), (make(item),)), items, (), [made], [None])[1][0]


def before(variables: dict[str, Any], name: str) -> Any:
    """Return the value of a variable before the loop."""
    return variables.get(name, MISSING)


def window(start: Any, length: Any) -> Any:
    """Return the slice ``start : start + length``."""
    return Window(start, length) if isinstance(start, Tensor) else slice(start, start + length)


def without_end(start: Any, number: Any) -> Any:
    """Return the slice ``start : -number``; 0 takes nothing away, where the code's own test would leave it out."""
    return WithoutEnd(start, number) if _varies(number) else slice(start, -number)


def shaped(value: Any, place: Tensor) -> Tensor:
    """Return ``value`` as it is when it is written into ``place``."""
    return torch.as_tensor(value).to(place.dtype).expand(place.shape)


def join(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return ``function(...)``, which is ``torch.stack`` or ``torch.cat``, for lists that a loop has filled too."""
    name = "tensors" if "tensors" in kwargs else None
    tensors = kwargs.pop(name) if name else args[0]
    others = args if name else args[1:]
    if not isinstance(tensors, Stacked | Steps):
        return function(tensors, *others, **kwargs)
    items = tensors.items if isinstance(tensors, Stacked) else _all(tensors)
    dim = others[0] if others else kwargs.get("dim", kwargs.get("axis", 0))
    if function.__name__ == "stack":
        return items.movedim(0, dim)
    dim = dim % (items.dim() - 1)
    return items.movedim(0, dim).flatten(dim, dim + 1)


def _all(items: Steps) -> Tensor:
    made: list[Any] = []
    stacked: Stacked = loop(lambda _, item: ((), (item,)), items, (), [made], [None])[1][0]
    return stacked.items


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
    """Return ``items`` after ``items[index] = value``; they are not changed themselves."""
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
    return items.index_copy(dim, _wrapped(position, items.shape[dim]), inner.unsqueeze(dim))


def loop(
    body: Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]],
    items: Steps,
    init: Sequence[Any],
    outputs: Sequence[Any],
    dims: Sequence[int | None],
    asks_for_first: bool = False,
) -> tuple[tuple[Any, ...], list[Any]]:
    """Run a loop as one operator of the graph.

    Args:
        body: ``body(is_first, item, *carried)`` -> the carried values after the step, and what it puts out.
        items: What the loop goes over.
        init: Carried values before the loop; ``MISSING`` where there is none.
        outputs: For each output the list it is appended to, or the tensor it is written into.
        dims: For each output the dimension of that tensor, None for a list.
        asks_for_first: Whether ``body`` does something else in the first step.

    Returns:
        The carried values after the loop, and each output as a whole.
    """
    start, first = _whole(tuple(init)), ()
    if asks_for_first or not _keeps_form(body, items, start):
        # The first step as Python runs it: it makes what has no value before, and gives the others their shape.
        first = _whole(body(True, items.at(0), *init))
        start = first[0]
    # Found here: torch traces the step, and could not follow the import.
    trees = pytree()
    leaves, form = trees.tree_flatten(start)
    chosen = [_fresh(leaf) for leaf in trees.tree_leaves(first)]
    may_be_empty = _may_be_zero(items.length)

    def step(state: list[Tensor], position: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        given = trees.tree_unflatten(state[: len(leaves)], form)
        at = position.clamp(min=1) if chosen else position
        made = trees.tree_leaves(body(False, items.at(at), *given))
        if chosen:
            made = [torch.where(position == 0, *pair) for pair in builtins.zip(chosen, made, strict=True)]
        carried, put_out = made[: len(leaves)] or state, made[len(leaves) :]
        if may_be_empty:
            carried = [
                torch.where(position < items.length, *pair) for pair in builtins.zip(carried, state, strict=True)
            ]
        # What goes out may be neither what came in nor twice the same.
        return [_fresh(leaf) for leaf in carried], [_fresh(leaf) for leaf in put_out]

    # An operator without anything carried does not exist, nor one without steps.
    state = [_fresh(leaf) for leaf in leaves or [torch.zeros(())]]
    after, whole = scan(step, state, torch.arange(items.length + 1 if may_be_empty else items.length))
    if may_be_empty:
        whole = [output[: items.length] for output in whole]
    filled = [_filled(*each, items) for each in builtins.zip(outputs, dims, whole, strict=True)]
    return trees.tree_unflatten(after[: len(leaves)], form), filled


def _keeps_form(body: Callable[..., Any], items: Steps, start: Any) -> bool:
    """Return whether a step leaves tensors of the same shape and type as it is given."""
    before = pytree().tree_leaves(start)
    if not all(isinstance(leaf, Tensor) for leaf in before):
        return False
    with disable_proxy_tracing():
        position = torch.zeros((), dtype=torch.long)
        made = pytree().tree_leaves(body(False, items.at(position), *start)[0])
    return [_form(leaf) for leaf in before] == [_form(leaf) for leaf in made]


def _form(leaf: Any) -> tuple[str, str]:
    # As text: comparing sizes that may vary would fix them.
    return (str(tuple(leaf.shape)), str(leaf.dtype)) if isinstance(leaf, Tensor) else (repr(type(leaf)), "")


def _whole(values: Any) -> Any:
    return pytree().tree_map(lambda leaf: torch.tensor(leaf) if isinstance(leaf, int | float) else leaf, values)


def _fresh(leaf: Tensor) -> Tensor:
    return leaf.clone(memory_format=torch.contiguous_format)


def _filled(target: Any, dim: int | None, whole: Tensor, items: Steps) -> Any:
    if dim is None:
        if target:
            raise TypeError("a list that a loop over time fills must be empty before it")
        return Stacked(whole)
    indices = _wrapped(items.at(torch.arange(items.length)), target.shape[dim])
    whole = whole.movedim(0, dim).to(target.dtype)
    shape = [whole.shape[at] if at == dim else size for at, size in builtins.enumerate(target.shape)]
    return target.index_copy(dim, indices, whole.expand(shape))


def _shortened(items: Tensor, parts: tuple[Any, ...], number: int) -> Any:
    part = parts[number]
    if not isinstance(part, WithoutEnd):
        return part
    dim = number - len(parts) if Ellipsis in parts[:number] else number
    return slice(part.start, items.shape[dim] - part.number)


def _is_position(part: Any) -> bool:
    return isinstance(part, Window) or (isinstance(part, Tensor) and part.dim() == 0 and not part.is_floating_point())


def _positions(parts: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """Return for each position in an index the dimension it has while it is a full slice."""
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
    return tensor.index_select(dim, _wrapped(position, tensor.shape[dim])).squeeze(dim)


def _window(tensor: Tensor, dim: int, window: Window) -> Tensor:
    return tensor.index_select(dim, _wrapped(window.start + torch.arange(window.length), tensor.shape[dim]))


def _wrapped(position: Any, size: Any) -> Tensor:
    # Python counts negative positions from the end.
    # The size is given as a tensor: ONNX has no translation of a remainder by a size.
    return torch.remainder(torch.as_tensor(position).reshape(-1), torch.full((1,), size, dtype=torch.long))


def _may_be_zero(length: Any) -> bool:
    # The size of an input is at least 1; what is computed from it may be less.
    return not getattr(length.node.expr, "is_symbol", False)


def _varies(size: Any) -> bool:
    return isinstance(size, torch.SymInt)
