"""From a captured program to an ONNX model: what ``torch.onnx`` does, without the steps that would change nothing."""

from __future__ import annotations

import contextlib
import copy
import gc
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from transformer_foundry.core.export.formats.onnx_optimize import avoid_denormal_softmax, split_fused_projections
from transformer_foundry.core.system.torch_compat import replace_onnx_decomposition, schema_of, with_graph

__all__ = ["infrequent_garbage_collection", "translate"]

# Operations whose result is a new tensor: writing into it is the same as making another.
_MAKE_NEW = ("zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")

# Captures make millions of small objects that stay; looking through them again and again takes a tenth of the time.
_COLLECTED_AFTER = 100_000


def translate(program: torch.export.ExportedProgram, names: Mapping[str, tuple[str | int, ...]]) -> Any:
    """Return the ``ONNXProgram`` of a captured program; its output is called ``logits``.

    Args:
        program: The captured program; it is not changed.
        names: Its inputs and their dimensions.
    """
    import onnxscript.optimizer

    # The program has its dynamic dimensions already; these only name them.
    named = tuple({dim: name for dim, name in enumerate(dims) if isinstance(name, str)} for dims in names.values())
    with replace_onnx_decomposition(_skip_if_known):
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(names),
            output_names=["logits"],
            dynamic_shapes=(named,),
            verbose=False,
            optimize=False,
        )
    assert translated is not None
    # A second round costs as much and finds two operations in five hundred.
    onnxscript.optimizer.optimize_ir(translated.model, num_iterations=1)
    split_fused_projections(translated.model.graph)
    avoid_denormal_softmax(translated.model.graph)
    return translated


@contextlib.contextmanager
def infrequent_garbage_collection() -> Iterator[None]:
    """Let Python look for unreachable objects less often while the block lasts."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _skip_if_known(decompose: Callable[..., Any], implemented: Callable[..., Any]) -> Callable[..., Any]:
    """Keep ``torch.onnx`` from tracing a program twice more where ONNX knows all its operators as they are.

    That takes half of the time of a translation.
    """

    def decompose_if_needed(program: torch.export.ExportedProgram, registry: Any) -> torch.export.ExportedProgram:
        plain = _without_writing(program)
        if _is_known(plain, set(implemented(registry))):
            return plain
        decomposed: torch.export.ExportedProgram = decompose(program, registry)
        return decomposed

    return decompose_if_needed


def _is_known(program: torch.export.ExportedProgram, known: Collection[Callable[..., Any]]) -> bool:
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op != "call_function" or not (node.target in known or node.target is operator.getitem):
            return False
        schema = schema_of(node.target)
        if schema is not None and schema.is_mutable:
            return False
    return True


def _without_writing(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a copy in which what writes into a new tensor that nothing else reads makes another tensor instead.

    ``nn.MultiheadAttention`` makes its mask so: ``zeros_like(mask).masked_fill_(mask, -inf)``.
    """
    graph = copy.deepcopy(program.graph)
    for node in graph.nodes:
        if node.op == "call_function" and (replacement := _writing_nothing(node)) is not None:
            node.target = replacement
    return with_graph(program, graph)


def _writing_nothing(node: fx.Node) -> Callable[..., Any] | None:
    """Return the operator that makes a new tensor where that of ``node`` writes into one that nothing else reads."""
    schema, source = schema_of(node.target), node.args[0] if node.args else None
    name, overload = _aten_name(node.target)
    if schema is None or not name.endswith("_") or name.endswith("__") or not isinstance(source, fx.Node):
        return None
    written = [item.name for item in schema.arguments if item.alias_info and item.alias_info.is_write]
    is_alone = _aten_name(source.target)[0] in _MAKE_NEW and len(source.users) == 1
    if not is_alone or written != [schema.arguments[0].name]:
        return None
    found: Callable[..., Any] | None = getattr(getattr(torch.ops.aten, name[:-1], None), overload, None)
    return found


def _aten_name(target: Any) -> tuple[str, str]:
    """Return name and overload of an operator of ATen, empty for anything else."""
    if schema_of(target) is None or target.namespace != "aten":
        return "", ""
    name, _, overload = target.name().removeprefix("aten::").partition(".")
    return name, overload or "default"
