"""Find the repeated blocks of a model: sibling modules of one class, or one module that is called several times."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.models.side_effects import no_side_effects

__all__ = ["find_blocks"]


@dataclass
class _Call:
    """One call of a module.

    Attributes:
        name: Name of the module.
        first_input: Identity of its first input tensor.
        first_output: Identity of its first output tensor.
    """

    name: str
    first_input: int | None
    first_output: int | None = None


@dataclass
class _Trace:
    calls: list[_Call] = field(default_factory=list)
    open_calls: list[_Call] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)  # an identity is valid only while its object exists


def find_blocks(adapter: nn.Module, objective: TaskLoss, batch: Batch) -> dict[str, nn.Module]:
    """Return the repeated blocks that a forward pass of ``batch`` calls, by name, none inside another.

    A block has submodules. Of nested groups the outer one is taken, unless the inner one has at least as many members
    and each takes the output of the previous one: an encoder and a decoder of one class are not blocks, their layers
    are; a layer is a block, its attention heads are not.

    Args:
        adapter: The model.
        objective: Its loss.
        batch: A small batch on the model's device.
    """
    calls = _trace(adapter, objective, batch)
    modules = dict(adapter.named_modules())
    groups = _groups(modules, calls)
    chosen: dict[str, nn.Module] = {}
    for group in sorted(groups, key=lambda names: names[0].count(".")):
        if any(_is_inside(group[0], name) for name in chosen):
            continue
        inner = [other for other in groups if _is_inside(other[0], group[0])]
        if any(len(other) >= len(group) and _is_chain(other, calls) for other in inner):
            continue
        chosen |= {name: modules[name] for name in group}
    return chosen


def _trace(adapter: nn.Module, objective: TaskLoss, batch: Batch) -> list[_Call]:
    trace = _Trace()
    handles = []
    for name, module in adapter.named_modules():
        handles.append(module.register_forward_pre_hook(_on_enter(trace, name), with_kwargs=True))
        handles.append(module.register_forward_hook(_on_leave(trace)))
    try:
        # Without gradients torch's encoder may take another path.
        with no_side_effects(adapter, train=True), torch.enable_grad():
            objective.loss(adapter, batch)
    finally:
        for handle in handles:
            handle.remove()
    return trace.calls


def _on_enter(trace: _Trace, name: str) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = _first_tensor([*args, *kwargs.values()])
        trace.kept.append(given)
        trace.open_calls.append(_Call(name, None if given is None else id(given)))

    return hook


def _on_leave(trace: _Trace) -> Any:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        found = _first_tensor([output])
        trace.kept.append(found)
        call = trace.open_calls.pop()
        call.first_output = None if found is None else id(found)
        trace.calls.append(call)

    return hook


def _first_tensor(values: Sequence[Any]) -> Tensor | None:
    for value in values:
        if isinstance(value, Mapping):
            value = list(value.values())
        found = _first_tensor(value) if isinstance(value, tuple | list) else value
        if isinstance(found, Tensor):
            return found
    return None


def _groups(modules: Mapping[str, nn.Module], calls: Sequence[_Call]) -> list[list[str]]:
    """Return the names in each group: modules of one class and one parent, or one module called several times."""
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
    families: dict[tuple[str, type], list[str]] = {}
    for name, count in counts.items():
        module = modules[name]
        if not name or isinstance(module, nn.ModuleList | nn.ModuleDict) or not _has_layers(module):
            continue
        parent = name.rpartition(".")[0]
        families.setdefault((parent, type(module)), []).extend([name] * count)
    return [list(dict.fromkeys(names)) for names in families.values() if len(names) >= 2]


def _has_layers(module: nn.Module) -> bool:
    """Return whether it has submodules and trainable matrices besides embeddings, which have nothing to recompute."""
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    matrices = [matrix for matrix in module.parameters() if matrix.requires_grad and matrix.dim() >= 2]
    return any(True for _ in module.children()) and any(id(matrix) not in tables for matrix in matrices)


def _is_inside(name: str, outer: str) -> bool:
    return name.startswith(outer + ".")


def _is_chain(names: Sequence[str], calls: Sequence[_Call]) -> bool:
    """Return whether each of the modules takes the output of the previous one."""
    chain = [call for call in calls if call.name in names]
    return all(later.first_input == earlier.first_output for earlier, later in itertools.pairwise(chain))
