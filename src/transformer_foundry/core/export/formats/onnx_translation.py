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
    with _needless_decompositions_skipped():
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


@contextlib.contextmanager
def _needless_decompositions_skipped() -> Iterator[None]:
    """Keep ``torch.onnx`` from tracing a program twice more where ONNX knows all its operations as they are.

    That takes half of the time of a translation. Where a torch arranges this differently, nothing is skipped.
    """
    try:
        from torch.onnx._internal.exporter import _decomp, _fx_passes

        decompose, known_by = _fx_passes.decompose_with_registry, _decomp.get_onnx_implemented_overloads
    except (ImportError, AttributeError):
        yield
        return

    def decompose_if_needed(program: torch.export.ExportedProgram, registry: Any) -> torch.export.ExportedProgram:
        plain = _without_writing(program)
        return plain if _is_known(plain, set(known_by(registry))) else decompose(program, registry)

    _fx_passes.decompose_with_registry = decompose_if_needed  # type: ignore[assignment]
    try:
        yield
    finally:
        _fx_passes.decompose_with_registry = decompose


def _is_known(program: torch.export.ExportedProgram, known: Collection[Callable[..., Any]]) -> bool:
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op != "call_function" or not (node.target in known or node.target is operator.getitem):
            return False
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            return False
    return True


def _without_writing(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a copy in which what writes into a new tensor that nothing else reads makes another tensor instead.

    ``nn.MultiheadAttention`` makes its mask so: ``zeros_like(mask).masked_fill_(mask, -inf)``.
    """
    graph = copy.deepcopy(program.graph)
    for node in graph.nodes:
        if node.op == "call_function" and _writes_into_new(node):
            namespace, name, overload = node.target.namespace, node.target._opname[:-1], node.target._overloadname
            node.target = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    copied = copy.copy(program)
    copied._graph_module = fx.GraphModule(program.graph_module, graph)
    copied._graph_module.meta.update(program.graph_module.meta)
    return copied


def _writes_into_new(node: fx.Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return False
    if not target._opname.endswith("_") or target._opname.endswith("__") or not node.args:
        return False
    written = [item.name for item in target._schema.arguments if item.alias_info and item.alias_info.is_write]
    source = node.args[0]
    return (
        written == [target._schema.arguments[0].name]
        and isinstance(source, fx.Node)
        and isinstance(source.target, torch._ops.OpOverload)
        and source.target._opname in _MAKE_NEW
        and len(source.users) == 1
        and hasattr(getattr(torch.ops.aten, target._opname[:-1], None), target._overloadname)
    )
