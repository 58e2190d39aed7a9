"""Writers of the formats: safetensors, ``.pt2``, ONNX and TorchScript."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.export_source import DimNames, LogitsOnly
from transformer_foundry.core.export.capture.exporter_patches import (
    EXPORTER_ERRORS,
    exportable_copy,
    exporters_quiet,
    exporting_patches,
    private_copy,
)
from transformer_foundry.core.export.formats.onnx_translation import translate
from transformer_foundry.core.export.names import needs_data_file
from transformer_foundry.core.system.tensors import memory_key

__all__ = [
    "compiled_copy",
    "load_weights",
    "write_onnx",
    "write_pt2",
    "write_torchscript",
    "write_traced_onnx",
    "write_weights",
]

# The newest that the older exporter writes without a warning about what it cannot check.
_TRACED_OPSET = 18


def write_weights(module: nn.Module, path: Path, buffers: Collection[str] = ()) -> None:
    """Write parameters and persistent buffers to a safetensors file, each tensor once.

    The names of tied tensors are kept in the file's metadata (``aliases``, JSON), so that a module which ties them
    and one which does not are both filled.

    Args:
        module: Module whose state is written.
        path: The file.
        buffers: Names of non-persistent buffers to write as well.
    """
    from safetensors.torch import save_file

    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    state |= {name: value for name, value in module.named_buffers() if name in buffers}
    first: dict[Hashable, str] = {}
    aliases: dict[str, str] = {}
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        owner = first.setdefault(memory_key(value), name)
        if owner != name:
            aliases[name] = owner
        else:
            # A view of another tensor (a transposed tie, a slice of a fused matrix) becomes a tensor of its own.
            kept[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    save_file(kept, path, metadata={"format": "pt", "aliases": json.dumps(aliases)})


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill ``module`` from a file of ``write_weights``.

    Raises:
        RuntimeError: If names or shapes do not fit.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        aliases: dict[str, str] = json.loads(file.metadata()["aliases"])
    tensors |= {name: tensors[kept] for name, kept in aliases.items()}
    module.load_state_dict(tensors)


def write_pt2(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a captured program as ``.pt2``."""
    with exporters_quiet():
        torch.export.save(program, path)


def write_onnx(program: torch.export.ExportedProgram, names: DimNames, path: Path) -> int:
    """Translate a captured program to ONNX; above 2 GB the weights go to ``FILE.data`` beside it.

    Args:
        program: The captured program.
        names: The inputs and their dimensions; the output is called ``logits``.
        path: The file.

    Returns:
        The version of the operator set it needs.
    """
    import onnxscript  # noqa: F401 (torch reports its absence by another name)

    with exporters_quiet():
        translated = translate(program, names)
        weights = translated.model.graph.initializers.values()
        size_bytes = sum(item.const_value.nbytes for item in weights if item.const_value is not None)
        translated.save(path, external_data=needs_data_file(size_bytes))
    return translated.model.opset_imports[""]


def write_traced_onnx(module: LogitsOnly, example: Mapping[str, Tensor], names: DimNames, path: Path) -> int:
    """Write ONNX by the older exporter, which knows some operations that the newer one lacks.

    It follows one path through the model and may fix sizes; what it writes must be verified at other shapes.

    Args:
        module: What is traced, in evaluation mode; a compiled module inside keeps its loops.
        example: The keyword tensors of one call.
        names: The inputs and their dimensions.
        path: The file.

    Returns:
        The version of the operator set it needs.
    """
    axes = {
        argument: {dim: name for dim, name in enumerate(dims) if isinstance(name, str)}
        for argument, dims in names.items()
    }
    with torch.no_grad(), exporting_patches(), exporters_quiet():
        torch.onnx.export(
            module,
            tuple(example.values()),
            str(path),
            dynamo=False,
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=_TRACED_OPSET,
        )
    return _TRACED_OPSET


def write_torchscript(
    module: LogitsOnly, example: Mapping[str, Tensor], path: Path, is_right: Callable[[nn.Module], bool]
) -> None:
    """Write TorchScript: a trace, or where that is wrong at other shapes, a trace around the compiled module.

    TorchScript has been deprecated since torch 2.11 but has no date of removal; its warning is kept back here only.

    Args:
        module: What is traced, in evaluation mode.
        example: The keyword tensors of one call, in the order of ``module.names``.
        path: The file.
        is_right: Whether a candidate agrees with the model at other shapes.
    """
    tensors = tuple(example.values())
    traced = _trace(exportable_copy(module), tensors)
    if not is_right(traced):
        # A trace keeps one path; a compiled module inside keeps its loops and branches.
        try:
            scripted = _trace(compiled_copy(module), tensors)
        except EXPORTER_ERRORS:
            scripted = traced
        traced = scripted if is_right(scripted) else traced
    with exporters_quiet():
        torch.jit.save(traced, str(path))


def _trace(module: nn.Module, tensors: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    with torch.no_grad(), exporting_patches(), exporters_quiet():
        return torch.jit.trace(module, tensors, check_trace=False, strict=False)


def compiled_copy(module: nn.Module) -> LogitsOnly:
    """Return a private copy of ``module`` around its compiled self, which keeps loops and branches.

    Raises:
        RuntimeError: Or whatever else the model cannot be compiled for.
    """
    module = private_copy(module)
    assert isinstance(module, LogitsOnly)
    with exporters_quiet():
        try:
            module.module = torch.jit.script(module.module)
        except EXPORTER_ERRORS:
            # An adapter takes its arguments by name, which cannot be compiled; the model inside may be.
            for name, child in list(module.module.named_children()):
                setattr(module.module, name, torch.jit.script(child))
    return module
