"""One format on its way: written, verified by another process, and where that fails written in another way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from transformer_foundry.core.export.capture.data_dependent import Captured
from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.capture.exporter_patches import EXPORTER_ERRORS, exportable_copy, private_copy
from transformer_foundry.core.export.formats.writers import (
    compiled_copy,
    load_weights,
    write_onnx,
    write_pt2,
    write_torchscript,
    write_traced_onnx,
    write_weights,
)
from transformer_foundry.core.export.names import LOADER_FILE
from transformer_foundry.core.export.verification.check import ParityCheck, delete, describe_file
from transformer_foundry.core.export.verification.error_reasons import explain_error
from transformer_foundry.core.export.verification.verifier_process import Verification, judge

__all__ = ["FormatExport", "finish", "start"]

_LEGACY = "legacy: TorchScript is deprecated since torch 2.11; prefer model.pt2"
_TRACED = "written by the older exporter, because the newer one could not"

Write = Callable[[], int | None]


@dataclass
class FormatExport:
    """A format on its way: its file, and either the process that verifies it, rows of results, or a failure.

    Attributes:
        name: The format.
        path: The file.
        verification: The process that verifies it.
        rows: Results of a verification in this process.
        failure: Why it could not be written.
        opset: Version of ONNX's operators.
        note: What its user should know.
    """

    name: str
    path: Path
    verification: Verification | None = None
    rows: list[dict[str, Any]] | None = None
    failure: str = ""
    opset: int | None = None
    note: str = ""


def start(
    attempt: FormatExport, source: ExportSource, check: ParityCheck, write_pytorch: Callable[[Path], None] | None = None
) -> None:
    """Write one format in its first way and start its verification; what cannot be written is explained."""
    _write(attempt, _first_way(attempt, source, check, write_pytorch), source, check)


def finish(attempt: FormatExport, source: ExportSource, check: ParityCheck) -> dict[str, Any]:
    """Return the manifest's entry of a format; a file that is not right is deleted, and other ways are tried."""
    entry = _judged(attempt, check)
    for note, way, its_check in _fallbacks(attempt, source, check, entry):
        if entry["status"] == "verified":
            break
        other = FormatExport(attempt.name, attempt.path, note=note)
        _write(other, way, source, its_check)
        judged = _judged(other, its_check)
        # The first way's reason is the one about the model.
        entry = judged if judged["status"] == "verified" else entry
    return entry


def _first_way(
    attempt: FormatExport, source: ExportSource, check: ParityCheck, write_pytorch: Callable[[Path], None] | None
) -> Write:
    path = attempt.path
    if attempt.name == "pytorch":
        return partial(write_pytorch or partial(write_weights, source.module), path)
    if attempt.name == "pt2":
        return lambda: write_pt2(source.program(), path)
    if attempt.name == "onnx":
        return lambda: write_onnx(source.program(), source.names, path)
    attempt.note = _LEGACY
    return lambda: write_torchscript(source.wrapper, source.example_tensors(), path, check.accepts)


def _fallbacks(
    attempt: FormatExport, source: ExportSource, check: ParityCheck, entry: dict[str, Any]
) -> Iterator[tuple[str, Write, ParityCheck]]:
    """Yield what to try after the first way: a careful capture; for ONNX a trace, also around the compiled model."""
    # A capture that cannot be translated has an operation that ONNX lacks: another capture has it too.
    lacks_operation = entry.get("stage") == "export" and source.is_captured
    if attempt.name in ("pt2", "onnx") and not lacks_operation:
        with contextlib.suppress(*EXPORTER_ERRORS):
            # The failure of the first way is the one about the model.
            captured = source.control_flow_capture()
            way = _translated(attempt, source, captured.program)
            yield _assumptions(captured), way, check.extended(captured.relaxed_shapes)
    if attempt.name == "onnx":
        for copied in (exportable_copy, compiled_copy):
            yield (
                _TRACED,
                lambda copied=copied: write_traced_onnx(  # type: ignore[misc]
                    copied(source.wrapper), source.example_tensors(), source.names, attempt.path
                ),
                check,
            )


def _translated(attempt: FormatExport, source: ExportSource, program: ExportedProgram) -> Write:
    if attempt.name == "pt2":
        return lambda: write_pt2(program, attempt.path)
    return lambda: write_onnx(program, source.names, attempt.path)


def _assumptions(captured: Captured) -> str:
    places = sorted(set(captured.assumed))
    return f"answers NaN where the model would take another way at {', '.join(places)}" if places else ""


def _write(attempt: FormatExport, way: Write, source: ExportSource, check: ParityCheck) -> None:
    try:
        attempt.opset = way()
    except EXPORTER_ERRORS as err:
        attempt.failure = explain_error(err, source.names)
        return
    if attempt.name == "pytorch" and not attempt.path.with_name(LOADER_FILE).is_file():
        # Weights alone mean nothing to a process without the module's code.
        attempt.rows = check.rows(_reloaded(source, attempt.path))
    else:
        attempt.verification = Verification(attempt.name, attempt.path, check.file)


def _reloaded(source: ExportSource, path: Path) -> nn.Module:
    wrapper = private_copy(source.wrapper)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            parameter.zero_()
        load_weights(wrapper.get_submodule("module"), path)
    return wrapper


def _judged(attempt: FormatExport, check: ParityCheck) -> dict[str, Any]:
    entry: dict[str, Any] = {"format": attempt.name, "file": None, "status": "failed"}
    if attempt.failure:
        delete(attempt.path)
        return entry | {"stage": "export", "reason": attempt.failure}
    rows, failure = attempt.verification.wait() if attempt.verification else (attempt.rows or [], "")
    verdict = judge(rows, failure, check.bound)
    entry |= {"max_abs_error": verdict.max_abs_error, "tolerance": check.bound, "shapes": verdict.rows}
    if verdict.reason:
        delete(attempt.path)
        return entry | {"stage": "parity", "reason": verdict.reason}
    entry |= {"status": "verified", **describe_file(attempt.path)}
    if attempt.opset is not None:
        entry["opset"] = attempt.opset
    return entry | ({"note": attempt.note} if attempt.note else {})
