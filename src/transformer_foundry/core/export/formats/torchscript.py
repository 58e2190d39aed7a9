"""TorchScript: a trace, or a trace around the compiled module.

TorchScript is deprecated since torch 2.11 but has no date of removal; its warning is suppressed here only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.export_source import ExportSource, LogitsOnly
from transformer_foundry.core.export.capture.torch_export import (
    EXPORTER_ERRORS,
    exportable_copy,
    exporting_patches,
    private_copy,
    silence_exporters,
)
from transformer_foundry.core.export.formats.debug_info import drop_torchscript_stacks
from transformer_foundry.core.export.formats.table import Way
from transformer_foundry.core.export.verification.parity import ParityCheck, Run

__all__ = ["compiled_copy", "open_file", "run_by_position", "ways"]

_NOTE = "legacy: TorchScript is deprecated since torch 2.11; prefer model.pt2"


def ways(source: ExportSource, check: ParityCheck) -> Iterator[Way]:
    """Yield the only way, which chooses between a trace and a trace around the compiled module."""
    yield Way(lambda path: _write(source, check, path), _NOTE)


def open_file(path: Path) -> Run:
    """Return a function that runs the script in ``path``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return run_by_position(torch.jit.load(str(path)))


def run_by_position(model: Callable[..., Tensor]) -> Run:
    """Return ``model``, which takes tensors by position, as a function of named arrays."""

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return model(*(torch.from_numpy(value) for value in inputs.values())).float().numpy()

    return run


def _write(source: ExportSource, check: ParityCheck, path: Path) -> None:
    tensors = tuple(source.example_tensors().values())
    traced = _trace(exportable_copy(source.wrapper), tensors)
    if not check.accepts(traced, EXPORTER_ERRORS):
        # A trace records one path; a compiled module inside keeps its loops and branches.
        try:
            scripted = _trace(compiled_copy(source.wrapper), tensors)
        except EXPORTER_ERRORS:
            scripted = traced
        traced = scripted if check.accepts(scripted, EXPORTER_ERRORS) else traced
    with silence_exporters():
        torch.jit.save(traced, str(path))
    drop_torchscript_stacks(path)


def _trace(module: nn.Module, tensors: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    with torch.no_grad(), exporting_patches(), silence_exporters():
        traced: torch.jit.ScriptModule = torch.jit.trace(module, tensors, check_trace=False, strict=False)
    return traced


def compiled_copy(module: nn.Module) -> LogitsOnly:
    """Return a private copy of ``module`` around its compiled self, which keeps loops and branches.

    Raises:
        RuntimeError: Or one of the other ``EXPORTER_ERRORS``, if the model cannot be compiled.
    """
    module = private_copy(module)
    assert isinstance(module, LogitsOnly)
    with silence_exporters():
        try:
            module.module = torch.jit.script(module.module)
        except EXPORTER_ERRORS:
            # An adapter takes its arguments by name, which cannot be compiled; the model inside may be.
            for name, child in list(module.module.named_children()):
                setattr(module.module, name, torch.jit.script(child))
    return module
