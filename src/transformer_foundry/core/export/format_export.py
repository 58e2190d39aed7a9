"""Export of one format: write its file, verify it in another process, and on failure write it in the next way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.capture.torch_export import EXPORTER_ERRORS, private_copy
from transformer_foundry.core.export.files import LOADER_FILE, delete_file, describe_file
from transformer_foundry.core.export.formats.pytorch import load_weights
from transformer_foundry.core.export.formats.table import Way, format_module
from transformer_foundry.core.export.verification.error_reasons import explain_error
from transformer_foundry.core.export.verification.parity import ParityCheck, judge
from transformer_foundry.core.export.verify_file import Verification

__all__ = ["FormatExport", "finish", "start"]


@dataclass
class FormatExport:
    """The export of one format.

    Attributes:
        name: The format.
        path: The file.
        fallbacks: The ways to write it that have not been tried.
        way: The way that was tried last.
        check: What a file written in this way must pass.
        opset: Version of ONNX's operator set.
        verification: The process that verifies the file.
        rows: Results of a verification in this process, in place of another one.
    """

    name: str
    path: Path
    fallbacks: Iterator[Way]
    way: Way
    check: ParityCheck
    opset: int | None = None
    verification: Verification | None = None
    rows: list[dict[str, Any]] | None = None


def start(name: str, path: Path, source: ExportSource, check: ParityCheck) -> FormatExport:
    """Write one format in its best way and start its verification; return before that ends."""
    ways = format_module(name).ways(source, check)
    export = FormatExport(name, path, ways, next(ways), check)
    _write(export, source)
    return export


def finish(export: FormatExport, source: ExportSource) -> dict[str, Any]:
    """Return the manifest's entry of a format; a wrong file is deleted, and the other ways are tried."""
    entry = _result(export)
    for way in export.fallbacks if entry["status"] != "verified" else ():
        other = FormatExport(export.name, export.path, export.fallbacks, way, export.check.extended(way.shapes))
        _write(other, source)
        # Unless a fallback succeeds, the first failure is reported: it is the one about the model.
        if (result := _result(other))["status"] == "verified":
            return result
    return entry


def _write(export: FormatExport, source: ExportSource) -> None:
    try:
        export.opset = export.way.write(export.path)
    except EXPORTER_ERRORS as err:
        export.way.failure = explain_error(err, source.names)
        return
    if export.name == "pytorch" and not export.path.with_name(LOADER_FILE).is_file():
        # Another process cannot use weights without the module's code.
        export.rows = export.check.rows(_reloaded(source, export.path))
    else:
        export.verification = Verification(export.name, export.path, export.check.file)


def _reloaded(source: ExportSource, path: Path) -> nn.Module:
    wrapper = private_copy(source.wrapper)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            parameter.zero_()
    load_weights(wrapper.get_submodule("module"), path)
    return wrapper


def _result(export: FormatExport) -> dict[str, Any]:
    entry: dict[str, Any] = {"format": export.name, "file": None, "status": "failed"}
    if export.way.failure:
        delete_file(export.path)
        return entry | {"stage": "export", "reason": export.way.failure}
    rows, failure = export.verification.wait() if export.verification else (export.rows or [], "")
    result = judge(rows, failure, export.check.bound)
    entry |= {"max_abs_error": result.max_abs_error, "tolerance": export.check.bound, "shapes": result.rows}
    if result.reason:
        delete_file(export.path)
        return entry | {"stage": "parity", "reason": result.reason}
    entry |= {"status": "verified", **describe_file(export.path)}
    if export.opset is not None:
        entry["opset"] = export.opset
    return entry | ({"note": export.way.note} if export.way.note else {})
