"""Optimize an ``onnx_ir`` graph for runtimes without changing its results."""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ["avoid_denormal_softmax", "split_fused_projections"]

# exp(-64) = 1.6e-28 is negligible next to 1 in float32, and still a normal number when divided by a million.
_LOWEST_BELOW_GREATEST = -64.0


def split_fused_projections(graph: Any) -> None:
    """Replace a product whose result is split along its last dimension by one product for each part.

    Then q, k and v of one ``nn.Linear`` are not copied from its result: copying takes a twentieth of the time of an
    int8 file, and several products take no longer than one.
    """
    import onnx_ir as ir

    for node in list(graph):
        if node.op_type != "Split" or node.domain != "":
            continue
        found = _product_before(node)
        if found is None:
            continue
        product, weight, bias = found
        sizes = _sizes(node, weight.shape[1])
        if not sizes:
            continue
        bounds = [0, *itertools.accumulate(sizes)]
        for output, (start, end) in zip(list(node.outputs), itertools.pairwise(bounds), strict=True):
            part = _slice(graph, weight, start, end)
            made = [ir.node("MatMul", [product.inputs[0], part])]
            if bias is not None:
                made.append(ir.node("Add", [made[0].outputs[0], _slice(graph, bias, start, end)]))
            made[-1].outputs[0].shape, made[-1].outputs[0].type = output.shape, output.type
            graph.insert_before(node, made)
            output.replace_all_uses_with(made[-1].outputs[0])
        maker = node.inputs[0].producer()
        graph.remove(node, safe=True)
        for unused in dict.fromkeys((maker, product)):
            graph.remove(unused, safe=True)
        for whole in (weight, bias):
            if whole is not None:
                del graph.initializers[whole.name]


def _product_before(split: Any) -> tuple[Any, Any, Any] | None:
    """Return the product that ``split`` splits, its (K, N) weight and (N,) bias (or None); None in other cases."""
    whole = split.inputs[0]
    maker, bias = whole.producer(), None
    if maker is None or len(whole.uses()) != 1 or whole.is_graph_output():
        return None
    if any(output.is_graph_output() for output in split.outputs):
        return None
    if maker.op_type == "Add":
        biases = [value for value in maker.inputs if _is_weight(value, 1)]
        others = [value for value in maker.inputs if value not in biases]
        if len(biases) != 1 or len(others) != 1 or others[0].producer() is None or len(others[0].uses()) != 1:
            return None
        bias, maker = biases[0], others[0].producer()
    # A weight with another use, such as a tied head, would have to be stored twice.
    if maker.op_type != "MatMul" or not _is_weight(maker.inputs[1], 2):
        return None
    rank, axis = whole.shape and len(whole.shape), split.attributes.get_int("axis", 0)
    return (maker, maker.inputs[1], bias) if rank and axis in (-1, rank - 1) else None


def _is_weight(value: Any, rank: int) -> bool:
    return (
        value.is_initializer()
        and value.const_value is not None
        and len(value.shape) == rank
        and len(value.uses()) == 1
        and not value.is_graph_output()
    )


def _sizes(split: Any, whole: int) -> list[int]:
    """Return the sizes of the parts, an empty list if they are unknown or do not add up to ``whole``."""
    given = split.inputs[1] if len(split.inputs) > 1 else None
    count = len(split.outputs)
    if given is None:
        return [whole // count] * count if whole % count == 0 else []
    sizes = [] if given.const_value is None else given.const_value.numpy().tolist()
    return sizes if sum(sizes) == whole else []


def _slice(graph: Any, value: Any, start: int, end: int) -> Any:
    import numpy as np
    import onnx_ir as ir

    name = f"{value.name}_{start}_{end}"
    content = np.ascontiguousarray(value.const_value.numpy()[..., start:end])
    tensor = ir.tensor(content, name=name)
    part = ir.Value(name=name, shape=ir.Shape(content.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(part)
    return part


def avoid_denormal_softmax(graph: Any) -> None:
    """Raise masked scores to 64 below the greatest of their row, before each softmax of an ``onnx_ir`` graph.

    ONNX Runtime's softmax turns minus infinity into a denormal number instead of 0, and many processors take a hundred
    times longer over those: 12 of 85 ms of an int8 file of 14M parameters. No probability changes by more than 1e-27.
    """
    import onnx_ir as ir

    for node in list(graph):
        scores = node.inputs[0] if node.op_type == "Softmax" and node.domain == "" else None
        maker = scores.producer() if scores is not None else None
        # Only masked scores differ widely, and a mask is an Add or a Where.
        if scores is None or maker is None or maker.op_type not in ("Add", "Where"):
            continue
        if scores.dtype != ir.DataType.FLOAT:
            continue
        axis = _initializer(graph, [node.attributes.get_int("axis", -1)], ir.DataType.INT64)
        lowest = _initializer(graph, _LOWEST_BELOW_GREATEST, ir.DataType.FLOAT)
        greatest = ir.node("ReduceMax", [scores, axis], {"keepdims": 1})
        bound = ir.node("Add", [greatest.outputs[0], lowest])
        raised = ir.node("Max", [scores, bound.outputs[0]])
        result = raised.outputs[0]
        result.shape, result.type = scores.shape, scores.type
        graph.insert_before(node, [greatest, bound, raised])
        node.replace_input_with(0, result)


def _initializer(graph: Any, content: Any, dtype: Any) -> Any:
    import onnx_ir as ir

    name = f"foundry_{'axis' if isinstance(content, list) else 'bound'}_{content}"
    if name not in graph.initializers:
        tensor = ir.tensor(content, dtype=dtype, name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape([len(content)] if isinstance(content, list) else []),
            type=ir.TensorType(dtype),
            const_value=tensor,
        )
        graph.register_initializer(value)
    return graph.initializers[name]
