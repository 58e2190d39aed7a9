"""ONNX files: translated from a captured program, or else traced by the older exporter.

Importing this module loads no torch: the process that verifies an ONNX file opens it here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.export.files import needs_data_file
from transformer_foundry.core.export.formats.debug_info import drop_onnx_stacks
from transformer_foundry.core.export.formats.table import Way

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from transformer_foundry.core.export.capture.export_source import ExportSource, LogitsOnly
    from transformer_foundry.core.export.capture.torch_export import DimNames
    from transformer_foundry.core.export.verification.parity import ParityCheck, Run

__all__ = ["open_file", "ways", "write_onnx", "write_traced_onnx"]

# The newest operator set that the older exporter writes without a warning about what it cannot check.
_TRACED_OPSET = 18
_TRACED = "written by the older exporter, because the newer one could not"
_OUTPUTS = ["logits"]


def ways(source: ExportSource, check: ParityCheck) -> Iterator[Way]:  # noqa: ARG001 (as all formats)
    """Yield the plain capture, the one with control flow, a trace, and a trace around the compiled model."""
    from transformer_foundry.core.export.capture.torch_export import exportable_copy
    from transformer_foundry.core.export.formats.torchscript import compiled_copy

    plain = Way(lambda path: write_onnx(source.program(), source.names, path))
    yield plain
    if (captured := source.second_capture(plain.failure)) is not None:
        write = partial(write_onnx, captured.program, source.names)
        yield Way(write, captured.note, captured.relaxed_shapes)
    for copied in (exportable_copy, compiled_copy):
        yield Way(partial(_write_trace_of, copied, source), _TRACED)


def open_file(path: Path) -> Run:
    """Return a function that runs the ONNX file ``path``."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(None, {name: inputs[name] for name in names})[0])

    return run


def write_onnx(program: ExportedProgram, names: DimNames, path: Path) -> int:
    """Translate a captured program to ONNX; above 2 GB the weights go to ``FILE.data`` beside it.

    Args:
        program: The captured program; it is not changed.
        names: The inputs and their dimensions; the output is called ``logits``.
        path: The file.

    Returns:
        The version of the operator set it needs.
    """
    import onnxscript  # noqa: F401 (torch reports its absence by another name)

    from transformer_foundry.core.export.capture.torch_export import silence_exporters

    with silence_exporters():
        translated = _translate(program, names)
        weights = translated.model.graph.initializers.values()
        size_bytes = sum(item.const_value.nbytes for item in weights if item.const_value is not None)
        translated.save(path, external_data=needs_data_file(size_bytes))
    return int(translated.model.opset_imports[""])


def _translate(program: ExportedProgram, names: DimNames) -> Any:
    """Return the ``torch.onnx.ONNXProgram`` of a captured program."""
    import onnxscript.optimizer
    import torch

    from transformer_foundry.core.export.formats.onnx_decompositions import skip_known_operators
    from transformer_foundry.core.export.formats.onnx_optimize import avoid_denormal_softmax, split_fused_projections

    with skip_known_operators():
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(names),
            output_names=_OUTPUTS,
            # The program has its dynamic dimensions already; these only name them.
            dynamic_shapes=(tuple(_dynamic_dims(names).values()),),
            verbose=False,
            optimize=False,
        )
    assert translated is not None
    # A second round costs as much and finds two operations in five hundred.
    onnxscript.optimizer.optimize_ir(translated.model, num_iterations=1)
    split_fused_projections(translated.model.graph)
    drop_onnx_stacks(translated.model)
    avoid_denormal_softmax(translated.model.graph)
    return translated


def _write_trace_of(copied: Any, source: ExportSource, path: Path) -> int:
    return write_traced_onnx(copied(source.wrapper), source.example_tensors(), source.names, path)


def write_traced_onnx(module: LogitsOnly, example: Mapping[str, Any], names: DimNames, path: Path) -> int:
    """Write ONNX by the older exporter, which knows some operations that the newer one lacks.

    It follows one path through the model and may fix sizes; what it writes must be verified at other shapes.

    Args:
        module: Module to trace, in evaluation mode; a compiled module inside keeps its loops.
        example: The keyword tensors of one call.
        names: The inputs and their dimensions.
        path: The file.

    Returns:
        The version of the operator set it needs.
    """
    import torch

    from transformer_foundry.core.export.capture.torch_export import exporting_patches, silence_exporters

    with torch.no_grad(), exporting_patches(), silence_exporters():
        torch.onnx.export(
            module,
            tuple(example.values()),
            str(path),
            dynamo=False,
            input_names=list(names),
            output_names=_OUTPUTS,
            dynamic_axes=_dynamic_dims(names),
            opset_version=_TRACED_OPSET,
        )
    return _TRACED_OPSET


def _dynamic_dims(names: DimNames) -> dict[str, dict[int, str]]:
    return {
        argument: {dim: name for dim, name in enumerate(dims) if isinstance(name, str)}
        for argument, dims in names.items()
    }
