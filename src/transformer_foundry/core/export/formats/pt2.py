"""Captured programs of ``torch.export`` (``.pt2``)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch.export import ExportedProgram

from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.capture.torch_export import silence_exporters
from transformer_foundry.core.export.formats.debug_info import without_stacks
from transformer_foundry.core.export.formats.table import Way
from transformer_foundry.core.export.formats.torchscript import run_by_position
from transformer_foundry.core.export.verification.parity import ParityCheck, Run

__all__ = ["open_file", "ways"]


def ways(source: ExportSource, check: ParityCheck) -> Iterator[Way]:  # noqa: ARG001 (as all formats)
    """Yield the plain capture, then the one that follows loops over time and branches on values."""
    plain = Way(lambda path: _write(source.program(), path))
    yield plain
    if (captured := source.second_capture(plain.failure)) is not None:
        yield Way(partial(_write, captured.program), captured.note, captured.relaxed_shapes)


def open_file(path: Path) -> Run:
    """Return a function that runs the program in ``path``."""
    return run_by_position(torch.export.load(path).module())


def _write(program: ExportedProgram, path: Path) -> None:
    with silence_exporters(), without_stacks(program):
        torch.export.save(program, path)
