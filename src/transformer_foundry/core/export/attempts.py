"""One format on its way: written, verified by another process, and where that fails written in another way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from transformer_foundry.core.export.capture import Source
from transformer_foundry.core.export.careful import Captured
from transformer_foundry.core.export.files import DATA_SUFFIX, LOADER_FILE, file_sha256
from transformer_foundry.core.export.formats import (
    compiled_copy,
    load_weights,
    write_onnx,
    write_pt2,
    write_torchscript,
    write_traced_onnx,
    write_weights,
)
from transformer_foundry.core.export.parity import Case, compare, is_plain, write_cases
from transformer_foundry.core.export.reasons import explain_error
from transformer_foundry.core.export.tracing import EXPORTER_ERRORS, exportable_copy, private_copy
from transformer_foundry.core.export.verification import Verification, judge

__all__ = ["Attempt", "Check", "conclude", "delete", "describe_file", "start"]

_LEGACY = "legacy: TorchScript is deprecated since torch 2.11; prefer model.pt2"
_TRACED = "written by the older exporter, because the newer one could not"

Write = Callable[[], int | None]


@dataclass
class Attempt:
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


class Check:
    """The reference cases, the file they are kept in, and the error that is allowed.

    Args:
        cases: The cases.
        file: Where they are kept for the processes that verify.
        tolerance: Largest difference allowed, times the largest logit when that is above 1.
        make: Makes the cases of further (batch, length) pairs.
    """

    def __init__(
        self,
        cases: list[Case],
        file: Path,
        tolerance: float,
        make: Callable[[list[tuple[int, int]]], list[Case]] = lambda _: [],
    ) -> None:
        self.cases, self.file, self._tolerance, self._make = cases, file, tolerance, make
        largest = max(float(np.abs(case.logits[is_plain(case.logits)]).max(initial=0.0)) for case in cases)
        self.bound = tolerance * max(1.0, largest)

    def extended(self, shapes: list[tuple[int, int]]) -> Check:
        """Return a check of ``shapes`` too, its cases kept in a file of their own."""
        known = {(case.batch, case.length) for case in self.cases}
        if known.issuperset(shapes):
            return self
        cases = self.cases + self._make([shape for shape in shapes if shape not in known])
        extended = Check(cases, self.file.with_name(f"more-{self.file.name}"), self._tolerance, self._make)
        write_cases(cases, extended.file)
        return extended

    def rows(self, model: Callable[..., Any]) -> list[dict[str, Any]]:
        """Run ``model`` on every case in this process."""
        rows = []
        for case in self.cases:
            with torch.no_grad():
                logits = model(*(torch.from_numpy(value.copy()) for value in case.inputs.values()))
            error, problem = compare(case, logits.float().numpy())
            rows.append({"batch": case.batch, "length": case.length, "max_abs_error": error, "problem": problem})
        return rows

    def accepts(self, model: Callable[..., Any]) -> bool:
        """Return whether ``model`` runs and agrees on every case."""
        try:
            return not judge(self.rows(model), "", self.bound).reason
        except EXPORTER_ERRORS:
            return False


def start(attempt: Attempt, source: Source, check: Check, write_pytorch: Callable[[Path], None] | None = None) -> None:
    """Write one format in its first way and start its verification; what cannot be written is explained."""
    _write(attempt, _first_way(attempt, source, check, write_pytorch), source, check)


def conclude(attempt: Attempt, source: Source, check: Check) -> dict[str, Any]:
    """Return the manifest's entry of a format; a file that is not right is deleted, and other ways are tried."""
    entry = _judged(attempt, check)
    for note, way, its_check in _other_ways(attempt, source, check, entry):
        if entry["status"] == "verified":
            break
        other = Attempt(attempt.name, attempt.path, note=note)
        _write(other, way, source, its_check)
        judged = _judged(other, its_check)
        # The first way's reason is the one about the model.
        entry = judged if judged["status"] == "verified" else entry
    return entry


def _first_way(attempt: Attempt, source: Source, check: Check, write_pytorch: Callable[[Path], None] | None) -> Write:
    path = attempt.path
    if attempt.name == "pytorch":
        return partial(write_pytorch or partial(write_weights, source.module), path)
    if attempt.name == "pt2":
        return lambda: write_pt2(source.program(), path)
    if attempt.name == "onnx":
        return lambda: write_onnx(source.program(), source.names, path)
    attempt.note = _LEGACY
    return lambda: write_torchscript(source.wrapper, source.example_tensors(), path, check.accepts)


def _other_ways(
    attempt: Attempt, source: Source, check: Check, entry: dict[str, Any]
) -> Iterator[tuple[str, Write, Check]]:
    """Yield what to try after the first way: a careful capture; for ONNX a trace, also around the compiled model."""
    # A capture that cannot be translated has an operation that ONNX lacks: another capture has it too.
    lacks_operation = entry.get("stage") == "export" and source.is_captured
    if attempt.name in ("pt2", "onnx") and not lacks_operation:
        with contextlib.suppress(*EXPORTER_ERRORS):
            # The failure of the first way is the one about the model.
            captured = source.careful()
            way = _translated(attempt, source, captured.program)
            yield _assumptions(captured), way, check.extended(captured.allowed_again)
    if attempt.name == "onnx":
        for copied in (exportable_copy, compiled_copy):
            yield (
                _TRACED,
                lambda copied=copied: write_traced_onnx(  # type: ignore[misc]
                    copied(source.wrapper), source.example_tensors(), source.names, attempt.path
                ),
                check,
            )


def _translated(attempt: Attempt, source: Source, program: ExportedProgram) -> Write:
    if attempt.name == "pt2":
        return lambda: write_pt2(program, attempt.path)
    return lambda: write_onnx(program, source.names, attempt.path)


def _assumptions(captured: Captured) -> str:
    places = sorted(set(captured.assumed))
    return f"answers NaN where the model would take another way at {', '.join(places)}" if places else ""


def _write(attempt: Attempt, way: Write, source: Source, check: Check) -> None:
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


def _reloaded(source: Source, path: Path) -> nn.Module:
    wrapper = private_copy(source.wrapper)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            parameter.zero_()
        load_weights(wrapper.get_submodule("module"), path)
    return wrapper


def _judged(attempt: Attempt, check: Check) -> dict[str, Any]:
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


def describe_file(path: Path) -> dict[str, Any]:
    """Return name, sha256 and size of a file, and of the one that holds its weights if there is one."""
    described = {"file": path.name, "sha256": file_sha256(path), "size_bytes": path.stat().st_size}
    data = path.with_name(path.name + DATA_SUFFIX)
    return described | ({"data": describe_file(data)} if data.is_file() else {})


def delete(path: Path) -> None:
    """Delete a file and the one that holds its weights."""
    for file in (path, path.with_name(path.name + DATA_SUFFIX)):
        file.unlink(missing_ok=True)
