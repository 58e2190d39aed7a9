"""``export_model``: one capture, several formats, each verified against the model before it is shipped."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.errors import DeploymentError, suggestion
from transformer_foundry.core.export.capture import EXPORTER_ERRORS, Inputs, Source, private_copy
from transformer_foundry.core.export.files import FORMAT_VERSION, LOADER_FILE, MANIFEST_FILE, file_sha256, write_json
from transformer_foundry.core.export.formats import (
    load_weights,
    write_onnx,
    write_pt2,
    write_torchscript,
    write_weights,
)
from transformer_foundry.core.export.options import FORMAT_FILES
from transformer_foundry.core.export.parity import (
    Case,
    check_shapes,
    compare,
    compared_logits,
    is_plain,
    make_cases,
    write_cases,
)
from transformer_foundry.core.export.reasons import explain_error
from transformer_foundry.core.export.verification import Verification, judge

__all__ = ["compared_positions", "export_model"]

DEFAULT_TOLERANCE = 1e-4

# Longest length tried when nothing limits the model.
_LONGEST_UNLIMITED = 128
_NOTES = {"torchscript": "legacy: TorchScript is deprecated since torch 2.11; prefer model.pt2"}

Compared = Callable[[Mapping[str, Tensor]], Tensor | None]


def export_model(
    module: nn.Module,
    inputs: Inputs,
    folder: str | Path,
    formats: Iterable[str] = tuple(FORMAT_FILES),
    *,
    max_length: int | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    compared: Compared | None = None,
    write_pytorch: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write ``module`` in several formats and keep those that a fresh process finds equal to it.

    Every file is run at six or more (batch, length) pairs besides that of the example, length 1 and the
    greatest among them. A file that differs at any of them, or fails, is deleted and its reason is recorded.

    Args:
        module: Module whose forward takes the tensors of ``inputs`` by name. It is not changed.
        inputs: ``inputs(batch, length)`` returns the keyword tensors of one call, always in the same order. Rows
            should end in padding where the model knows it, the first row excepted.
        folder: Where the files and ``manifest.json`` go; it is made if it is missing.
        formats: Any of ``pytorch``, ``pt2``, ``onnx``, ``torchscript``.
        max_length: Greatest length the model takes; None if nothing limits it.
        tolerance: Largest difference allowed between logits, times the largest logit when that is above 1.
        compared: Given the tensors of a call, the (B, T) positions to compare, 1 or True; by default those that
            ``decoder_attention_mask`` or, without decoder ids, ``attention_mask`` marks as real.
        write_pytorch: Writes the weights to the given path; by default the module's parameters and buffers.

    Returns:
        The manifest: ``format_version``; ``inputs``, with their dimensions by name; ``example``; ``tolerance``;
        ``formats``, for each ``format``, ``file``, ``status`` (``verified`` or ``failed``), ``stage`` of a failure
        (``export``: it could not be made; ``parity``: it was wrong) and its ``reason``, ``max_abs_error``,
        ``tolerance`` (what was allowed), ``shapes``, ``sha256``, ``size_bytes``, ``opset``, ``note``.

    Raises:
        DeploymentError: If a format is unknown, or the model itself fails or returns NaN at one of the shapes.

    Example:
        >>> model = nn.Sequential(nn.Embedding(16, 4), nn.Linear(4, 16))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = export_model(model, lambda b, t: {"input": torch.ones(b, t).long()}, folder, ["pytorch"])
        >>> made["formats"][0]["status"], made["formats"][0]["max_abs_error"]
        ('verified', 0.0)
    """
    wanted = _check_formats(formats)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = Source(private_copy(module), inputs, max_length or _LONGEST_UNLIMITED)
    with tempfile.TemporaryDirectory(prefix="foundry-verify-") as scratch:
        cases = _reference_cases(source, wanted, compared or compared_positions)
        check = _Check(cases, Path(scratch) / "cases.safetensors", tolerance)
        _refuse_chance(source, check)
        write_cases(cases, check.file)
        # A file is verified by another process while the next one is made.
        attempts = [_make(name, source, folder / FORMAT_FILES[name], check, write_pytorch) for name in wanted]
        entries = [_conclude(attempt, check) for attempt in attempts]
    manifest = {"format_version": FORMAT_VERSION, **source.describe(), "tolerance": tolerance, "formats": entries}
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def compared_positions(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Return the mask of the positions that logits belong to: the decoder's, else that of the only ids."""
    if "decoder_input_ids" in tensors:
        return tensors.get("decoder_attention_mask")
    return tensors.get("attention_mask")


@dataclass
class _Attempt:
    """A format on its way: its file, and either the process that verifies it, rows of results, or a failure."""

    name: str
    path: Path
    verification: Verification | None = None
    rows: list[dict[str, Any]] | None = None
    failure: str = ""
    opset: int | None = None


class _Check:
    """The reference cases, the file they are kept in, and the error that is allowed."""

    def __init__(self, cases: list[Case], file: Path, tolerance: float) -> None:
        self.cases, self.file = cases, file
        largest = max(float(np.abs(case.logits[is_plain(case.logits)]).max(initial=0.0)) for case in cases)
        self.bound = tolerance * max(1.0, largest)

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


def _check_formats(formats: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(formats))
    for name in wanted:
        if name not in FORMAT_FILES:
            raise DeploymentError(
                f"There is no format {name!r}.{suggestion(name, FORMAT_FILES)}",
                f"Known formats: {', '.join(FORMAT_FILES)}.",
                "Name some of these.",
            )
    return wanted


def _reference_cases(source: Source, wanted: list[str], compared: Compared) -> list[Case]:
    shapes = check_shapes(source.longest)
    try:
        # First the model itself: tables that it makes when they are needed are then part of what is captured.
        cases = make_cases(source.wrapper, source.inputs, shapes, compared)
        more = [shape for shape in _allowed_again(source, wanted) if shape not in shapes]
        cases += make_cases(source.wrapper, source.inputs, more, compared)
    except EXPORTER_ERRORS as err:
        raise DeploymentError(
            f"The model itself fails at one of the (batch, length) pairs {shapes}: {type(err).__name__}: {err}",
            f"It must run for every batch and every length from 1 to {source.longest}.",
            "Run the validation pipeline, which says where and why; mend the model and export it again.",
        ) from err
    for case in cases:
        if np.isnan(compared_logits(case, case.logits)).any():
            raise DeploymentError(
                f"The model returns values that are not a number at (batch, length) = ({case.batch}, {case.length}).",
                "Only a model with finite outputs can be verified and shipped.",
                "Train again with a lower training.learning_rate, or choose an earlier checkpoint.",
            )
    return cases


def _allowed_again(source: Source, wanted: list[str]) -> list[tuple[int, int]]:
    if {"pt2", "onnx"}.intersection(wanted):
        with contextlib.suppress(*EXPORTER_ERRORS):
            # A failure is told when the format is made.
            source.program()
    return source.allowed_again


def _refuse_chance(source: Source, check: _Check) -> None:
    if not check.accepts(source.wrapper):
        raise DeploymentError(
            "The model answers the same input differently each time, in evaluation mode too.",
            "Only a model without chance can be compared with its exported files.",
            "Look in forward for random numbers, or for F.dropout without training=self.training.",
        )


def _make(
    name: str, source: Source, path: Path, check: _Check, write_pytorch: Callable[[Path], None] | None
) -> _Attempt:
    """Write one format and start its verification; what cannot be written is explained."""
    attempt = _Attempt(name, path)
    try:
        if name == "pytorch":
            (write_pytorch or partial(write_weights, source.module))(path)
        elif name == "pt2":
            write_pt2(source.program(), path)
        elif name == "onnx":
            attempt.opset = write_onnx(source.program(), source.names, path)
        else:
            write_torchscript(source.wrapper, source.example_tensors(), path, check.accepts)
    except EXPORTER_ERRORS as err:
        attempt.failure = explain_error(err, source.names)
    else:
        _start_check(attempt, source, check)
    return attempt


def _start_check(attempt: _Attempt, source: Source, check: _Check) -> None:
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


def _conclude(attempt: _Attempt, check: _Check) -> dict[str, Any]:
    """Return the manifest's entry of a format; the file of one that is not right is deleted."""
    entry: dict[str, Any] = {"format": attempt.name, "file": None, "status": "failed"}
    if attempt.failure:
        _delete(attempt.path)
        return entry | {"stage": "export", "reason": attempt.failure}
    rows, failure = attempt.verification.wait() if attempt.verification else (attempt.rows or [], "")
    verdict = judge(rows, failure, check.bound)
    entry |= {"max_abs_error": verdict.max_abs_error, "tolerance": check.bound, "shapes": verdict.rows}
    if verdict.reason:
        _delete(attempt.path)
        return entry | {"stage": "parity", "reason": verdict.reason}
    entry |= {"file": attempt.path.name, "status": "verified"}
    entry |= {"sha256": file_sha256(attempt.path), "size_bytes": attempt.path.stat().st_size}
    if attempt.opset is not None:
        entry["opset"] = attempt.opset
    return entry | ({"note": _NOTES[attempt.name]} if attempt.name in _NOTES else {})


def _delete(path: Path) -> None:
    # ONNX keeps weights above 2 GB in a second file.
    for file in (path, path.with_name(path.name + ".data")):
        file.unlink(missing_ok=True)
