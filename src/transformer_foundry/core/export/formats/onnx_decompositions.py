"""Skip the decomposition of captured programs whose operators ONNX knows as they are."""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from transformer_foundry.core.system.torch_compat import replace_onnx_decomposition, schema_of, with_graph

__all__ = ["skip_known_operators"]

# Operators whose result is a new tensor: writing into it gives the same as making another.
_FACTORIES = ("zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")


def skip_known_operators() -> contextlib.AbstractContextManager[None]:
    """Keep ``torch.onnx`` from decomposing a program whose operators ONNX all knows, while the block lasts.

    Decomposing traces the program twice more, which takes half of the time of a translation.
    """
    return replace_onnx_decomposition(_decompose_if_needed)


def _decompose_if_needed(
    decompose: Callable[..., ExportedProgram], implemented: Callable[..., Collection[Callable[..., Any]]]
) -> Callable[[ExportedProgram, Any], ExportedProgram]:
    def decompose_if_needed(program: ExportedProgram, registry: Any) -> ExportedProgram:
        functional = _functional_copy(program)
        is_known = _uses_only(functional, set(implemented(registry)))
        return functional if is_known else decompose(program, registry)

    return decompose_if_needed


def _uses_only(program: ExportedProgram, known: Collection[Callable[..., Any]]) -> bool:
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op != "call_function" or not (node.target in known or node.target is operator.getitem):
            return False
        schema = schema_of(node.target)
        if schema is not None and schema.is_mutable:
            return False
    return True


def _functional_copy(program: ExportedProgram) -> ExportedProgram:
    """Return a copy without in-place operators on new tensors that nothing else reads.

    ``nn.MultiheadAttention`` makes its mask by one: ``zeros_like(mask).masked_fill_(mask, -inf)``.
    """
    graph = copy.deepcopy(program.graph)
    for node in graph.nodes:
        if node.op == "call_function" and (replacement := _out_of_place(node)) is not None:
            node.target = replacement
    return with_graph(program, graph)


def _out_of_place(node: fx.Node) -> Callable[..., Any] | None:
    """Return the out-of-place form of an in-place operator on a new tensor that nothing else reads, else None."""
    schema, source = schema_of(node.target), node.args[0] if node.args else None
    name, overload = _aten_name(node.target)
    if schema is None or not name.endswith("_") or name.endswith("__") or not isinstance(source, fx.Node):
        return None
    written = [item.name for item in schema.arguments if item.alias_info and item.alias_info.is_write]
    is_alone = _aten_name(source.target)[0] in _FACTORIES and len(source.users) == 1
    if not is_alone or written != [schema.arguments[0].name]:
        return None
    found: Callable[..., Any] | None = getattr(getattr(torch.ops.aten, name[:-1], None), overload, None)
    return found


def _aten_name(target: Any) -> tuple[str, str]:
    """Return name and overload of an ATen operator, empty strings for anything else."""
    if schema_of(target) is None or target.namespace != "aten":
        return "", ""
    name, _, overload = target.name().removeprefix("aten::").partition(".")
    return name, overload or "default"
