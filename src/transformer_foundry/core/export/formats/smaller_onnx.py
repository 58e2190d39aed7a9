"""``WRITERS``, which write a smaller variant of an ONNX file: int8 or fp16.

int8 is dynamic quantization: weights are int8 with one scale per output, activations are quantized at run time with one
scale per tensor. Embeddings are quantized per row, and a table that is also the head is stored once.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_foundry.core.export.files import DATA_SUFFIX, needs_data_file

__all__ = ["WRITERS", "write_half_weights", "write_int8"]

# Quantizing a smaller matrix costs more operations than it saves.
_FEWEST_WEIGHTS = 1024
_ONLY_AXIS_ZERO = (0, None)


def write_int8(source: Path, path: Path) -> None:
    """Write an ONNX file with int8 weights whose matrix products are computed in int8.

    Args:
        source: ONNX file with float32 weights.
        path: The file to write.
    """
    graph = _Graph(source)
    graph.quantize_products()
    graph.quantize_tables()
    graph.store_rest(graph.dequantize)
    graph.save(path)


def _write_int8_weights(source: Path, path: Path) -> None:
    """Write an ONNX file with int8 weights that become float32 when the file is loaded."""
    graph = _Graph(source)
    graph.quantize_tables()
    graph.store_rest(graph.dequantize)
    graph.save(path)


def _write_half(source: Path, path: Path) -> None:
    """Write an ONNX file that computes in float16; its inputs and outputs keep their types."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(source)
    # Type inference needs the model in one buffer, which cannot be larger than 2 GB.
    halved = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=needs_data_file(model.ByteSize()))
    _save(halved, path)


def write_half_weights(source: Path, path: Path) -> None:
    """Write an ONNX file with float16 weights that become float32 when the file is loaded."""
    graph = _Graph(source)
    graph.store_rest(graph.widen)
    graph.save(path)


WRITERS: Mapping[str, Sequence[tuple[str, Callable[[Path, Path], None]]]] = {
    "onnx-fp16": (("float16", _write_half), ("float32 from float16 weights", write_half_weights)),
    "onnx-int8": (("int8", write_int8), ("float32 from int8 weights", _write_int8_weights)),
}
"""Variant -> what the file computes in, and the function that writes it from the ONNX file; tried in this order. The
second way stores small weights only, and computes as the ONNX file does."""


class _Graph:
    """The graph of an ONNX file with folded constants, and the nodes that replace its float32 weights."""

    def __init__(self, source: Path) -> None:
        import onnx

        self.onnx = onnx
        self.model = _folded(source)
        self.graph = self.model.graph
        self.weights = {
            item.name: onnx.numpy_helper.to_array(item)
            for item in self.graph.initializer
            if item.data_type == onnx.TensorProto.FLOAT
            and len(item.dims) >= 2
            and np.prod(item.dims) >= _FEWEST_WEIGHTS
        }
        self.stored: dict[tuple[Any, ...], tuple[str, str]] = {}
        self.transposed: dict[str, tuple[str, str]] = {}
        self.activations: dict[str, tuple[str, str, str]] = {}
        self.first: list[Any] = []
        self.names = 0

    def quantize_products(self) -> None:
        """Replace products with a constant matrix by int8 products."""
        nodes = []
        for node in self.graph.node:
            weight = self._product_weight(node)
            nodes += [node] if weight is None else self._int8_product(node, weight)
        self._replace_nodes(nodes)

    def quantize_tables(self) -> None:
        """Replace look-ups in a constant table by look-ups of its int8 rows and their scales."""
        nodes = []
        for node in self.graph.node:
            is_table = node.op_type == "Gather" and node.input[0] in self.weights
            if is_table and _attribute(node, "axis") in _ONLY_AXIS_ZERO:
                nodes += self._int8_lookup(node)
            else:
                nodes.append(node)
        self._replace_nodes(nodes)

    def store_rest(self, store: Callable[[str, np.ndarray], None]) -> None:
        """Store the weights that are still used by ``store(name, value)``, and drop the others."""
        used = set(_names_used(self.graph)) | {item.name for item in self.graph.output}
        for name, value in self.weights.items():
            if name in used:
                store(name, value)
        self._replace_nodes([*self.first, *self.graph.node])
        used = set(_names_used(self.graph))
        kept = [item for item in self.graph.initializer if item.name in used and item.name not in self.weights]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def dequantize(self, name: str, value: np.ndarray) -> None:
        """Store ``value`` as int8; the graph computes it under its name."""
        codes, scales = self._store(value)
        wide = self._fresh()
        self.first += [
            self._node("Cast", [codes], [wide], to=self.onnx.TensorProto.FLOAT),
            self._node("Mul", [wide, scales], [name]),
        ]

    def widen(self, name: str, value: np.ndarray) -> None:
        """Store ``value`` as float16; the graph computes it under its name."""
        half = self._constant(value.astype(np.float16))
        self.first.append(self._node("Cast", [half], [name], to=self.onnx.TensorProto.FLOAT))

    def save(self, path: Path) -> None:
        """Write the file."""
        _save(self.model, path)

    def _product_weight(self, node: Any) -> np.ndarray | None:
        """Return the (N, K) weight of a product with a constant matrix, else None."""
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in self.weights:
            return None
        weight = self.weights[node.input[1]]
        if weight.ndim != 2 or node.input[0] in self.weights:
            return None
        if node.op_type == "MatMul":
            return np.asarray(weight.T)
        is_plain = _attribute(node, "alpha") in (1.0, None) and _attribute(node, "beta") in (1.0, None)
        if not is_plain or _attribute(node, "transA"):
            return None
        return np.asarray(weight if _attribute(node, "transB") else weight.T)

    def _int8_product(self, node: Any, weight: np.ndarray) -> list[Any]:
        columns, row = self._columns(weight)
        made = []
        if node.input[0] not in self.activations:
            self.activations[node.input[0]] = self._fresh(), self._fresh(), self._fresh()
            made.append(self._node("DynamicQuantizeLinear", [node.input[0]], self.activations[node.input[0]]))
        codes, scale, zero = self.activations[node.input[0]]
        sums, product, scales = self._fresh(), self._fresh(), self._fresh()
        bias = [name for name in node.input[2:3] if name and node.op_type == "Gemm"]
        scaled = self._fresh() if bias else node.output[0]
        made += [
            self._node("MatMulInteger", [codes, columns, zero], [sums]),
            self._node("Cast", [sums], [product], to=self.onnx.TensorProto.FLOAT),
            self._node("Mul", [scale, row], [scales]),
            self._node("Mul", [product, scales], [scaled]),
        ]
        return made + ([self._node("Add", [scaled, *bias], [node.output[0]])] if bias else [])

    def _int8_lookup(self, node: Any) -> list[Any]:
        codes, scales = self._store(self.weights[node.input[0]])
        found, factors, values = self._fresh(), self._fresh(), self._fresh()
        return [
            self._node("Gather", [codes, node.input[1]], [found], axis=0),
            self._node("Gather", [scales, node.input[1]], [factors], axis=0),
            self._node("Cast", [found], [values], to=self.onnx.TensorProto.FLOAT),
            self._node("Mul", [values, factors], [node.output[0]]),
        ]

    def _columns(self, weight: np.ndarray) -> tuple[str, str]:
        """Store an (N, K) weight; return the names of its codes as (K, N) and of its scales as (N,)."""
        codes, scales = self._store(weight)
        if codes not in self.transposed:
            self.transposed[codes] = self._fresh(), self._fresh()
            columns, row = self.transposed[codes]
            # Runtimes fold these nodes at load time; the file keeps one copy of a head that is also the embedding.
            self.first.append(self._node("Transpose", [codes], [columns], perm=[1, 0]))
            self.first.append(self._node("Squeeze", [scales, self._constant(np.array([1]))], [row]))
        return self.transposed[codes]

    def _store(self, value: np.ndarray) -> tuple[str, str]:
        """Store ``value`` as int8 with a scale for each vector along its last axis; return the names of both."""
        greatest = np.abs(value).max(-1, keepdims=True).astype(np.float32)
        scales = np.where(greatest > 0, greatest / np.float32(127), np.float32(1))
        codes = np.clip(np.rint(value / scales), -127, 127).astype(np.int8)
        digest = hashlib.sha256(codes.tobytes()).digest() + hashlib.sha256(scales.tobytes()).digest()
        key = (codes.shape, digest)
        if key not in self.stored:
            self.stored[key] = self._constant(codes), self._constant(scales)
        return self.stored[key]

    def _constant(self, value: np.ndarray) -> str:
        name = self._fresh()
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _fresh(self) -> str:
        self.names += 1
        return f"foundry_{self.names}"

    def _node(self, operation: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any) -> Any:
        return self.onnx.helper.make_node(operation, list(inputs), list(outputs), **attributes)

    def _replace_nodes(self, nodes: list[Any]) -> None:
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _folded(source: Path) -> Any:
    """Return the model with folded constants: slices and transposes of weights become separate weights."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="foundry-fold-") as folder:
        folded = Path(folder) / source.name
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", folded.stem)
        # A product and its bias stay two operations: the runtime has a faster int8 form for them.
        onnxruntime.InferenceSession(
            str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=["MatMulAddFusion"]
        )
        return onnx.load(folded)


def _save(model: Any, path: Path) -> None:
    import onnx

    data = path.name + DATA_SUFFIX
    path.with_name(data).unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=needs_data_file(model.ByteSize()), location=data)


def _attribute(node: Any, name: str) -> Any:
    import onnx

    found = next((item for item in node.attribute if item.name == name), None)
    return None if found is None else onnx.helper.get_attribute_value(found)


def _names_used(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _names_used(attribute.g)
