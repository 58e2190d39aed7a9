"""Runtime of rewritten loops: the functions that rewritten code calls, and the loop as an operator of the graph.

A Python loop over a dynamic size cannot be unrolled into a graph: ``loop`` runs it as torch's ``scan``.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.export.loops.steps import (
    Stacked,
    Steps,
    candidates_of,
    enumerate,
    is_symbolic,
    put,
    range,
    reversed,
    shaped,
    steps,
    take,
    unbind,
    window,
    without_end,
    wrapped,
    zip,
)
from transformer_foundry.core.system.torch_compat import disable_proxy_tracing, pytree, scan

__all__ = [
    "MISSING",
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
"""Value of a variable that is not defined before the loop."""


def before(variables: dict[str, Any], name: str) -> Any:
    """Return the value of a variable before the loop."""
    return variables.get(name, MISSING)


def comprehend(make: Callable[[Any], Any], items: Iterable[Any]) -> Any:
    """Return ``[make(item) for item in items]``."""
    items = steps(items)
    if not isinstance(items, Steps):
        return [make(item) for item in items]
    made: list[Any] = []
    return loop(lambda _, item: ((), (make(item),)), items, (), [made], [None])[1][0]


def join(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return ``function(...)``, ``torch.stack`` or ``torch.cat``, also for lists that a loop has filled."""
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


def loop(
    body: Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]],
    items: Steps,
    init: Sequence[Any],
    outputs: Sequence[Any],
    dims: Sequence[int | None],
    tests_first_step: bool = False,
) -> tuple[tuple[Any, ...], list[Any]]:
    """Run a loop as one operator of the graph.

    Args:
        body: ``body(is_first, item, *carried)`` -> the carried values after the step, and its outputs.
        items: Items of the loop.
        init: Carried values before the loop; ``MISSING`` for an undefined one.
        outputs: For each output the list that it is appended to, or the tensor that it is written into.
        dims: For each output the dimension of that tensor, None for a list.
        tests_first_step: Whether ``body`` does something else in the first step.

    Returns:
        The carried values after the loop, and each output as a whole.
    """
    start, first = _whole(tuple(init)), ()
    if tests_first_step or not _keeps_form(body, items, start):
        # The first step runs outside the operator: it defines missing values, and gives the others their shape.
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
        carried, output_parts = made[: len(leaves)] or state, made[len(leaves) :]
        if may_be_empty:
            carried = [
                torch.where(position < items.length, *pair) for pair in builtins.zip(carried, state, strict=True)
            ]
        # The operator returns neither its inputs nor one tensor twice.
        return [_fresh(leaf) for leaf in carried], [_fresh(leaf) for leaf in output_parts]

    # scan needs at least one carried value and one step.
    state = [_fresh(leaf) for leaf in leaves or [torch.zeros(())]]
    after, whole = scan(step, state, torch.arange(items.length + 1 if may_be_empty else items.length))
    if may_be_empty:
        whole = [output[: items.length] for output in whole]
    filled = [_filled(*each, items) for each in builtins.zip(outputs, dims, whole, strict=True)]
    return trees.tree_unflatten(after[: len(leaves)], form), filled


def _keeps_form(body: Callable[..., Any], items: Steps, start: Any) -> bool:
    """Return whether a step returns tensors of the same shapes and types as it gets."""
    before = pytree().tree_leaves(start)
    if not all(isinstance(leaf, Tensor) for leaf in before):
        return False
    with disable_proxy_tracing():
        position = torch.zeros((), dtype=torch.long)
        made = pytree().tree_leaves(body(False, items.at(position), *start)[0])
    return [_form(leaf) for leaf in before] == [_form(leaf) for leaf in made]


def _form(leaf: Any) -> tuple[str, str]:
    # As text: comparing dynamic sizes would fix them.
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
    indices = wrapped(items.at(torch.arange(items.length)), target.shape[dim])
    whole = whole.movedim(0, dim).to(target.dtype)
    shape = [whole.shape[at] if at == dim else size for at, size in builtins.enumerate(target.shape)]
    return target.index_copy(dim, indices, whole.expand(shape))


def _may_be_zero(length: Any) -> bool:
    # The size of an input is at least 1; a size computed from it may be 0.
    return not getattr(length.node.expr, "is_symbol", False)
