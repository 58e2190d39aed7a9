"""Export a module in several formats, and verify each file against the module before it is shipped."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from transformer_foundry.core.base.errors import DeploymentError, suggestion
from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.capture.torch_export import EXPORTER_ERRORS, Inputs, private_copy
from transformer_foundry.core.export.files import FORMAT_VERSION
from transformer_foundry.core.export.format_export import finish, start
from transformer_foundry.core.export.formats.table import FORMAT_FILES, FORMATS, VARIANT_FORMATS
from transformer_foundry.core.export.formats.variants import label_cases, make_variants
from transformer_foundry.core.export.verification.parity import (
    LONGEST_UNLIMITED,
    Case,
    ParityCheck,
    check_shapes,
    compared_logits,
    make_cases,
    write_cases,
)
from transformer_foundry.core.files.atomic import write_json
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE

__all__ = ["compared_positions", "export_model"]

DEFAULT_TOLERANCE = 1e-4

# Captures make millions of small objects that stay; scanning them again and again takes a tenth of the time.
_COLLECT_AFTER = 100_000

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
    labelled: Iterable[Mapping[str, Tensor]] = (),
    write_pytorch: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write ``module`` in several formats and keep the files that a fresh process finds equal to it.

    Every file is run at six or more (batch, length) pairs, among them length 1 and the greatest length; one that fails
    or differs at any of them is deleted, and the reason is recorded. Variants (``is_variant``) are made from a
    verified ONNX file: perplexity or accuracy on ``labelled`` (without it, perplexity on the model's own predictions)
    may be at most 1 % worse than the model's.

    Args:
        module: Module whose forward takes the tensors of ``inputs`` by name. It is not changed.
        inputs: ``inputs(batch, length)`` returns the keyword tensors of one call, always in the same order. If the
            model takes a mask, rows other than the first should end in padding.
        folder: Where the files and ``manifest.json`` go; it is created if it is missing.
        formats: Keys of ``formats.table.FORMATS``; by default all.
        max_length: Greatest length that the model accepts; None without a limit.
        tolerance: Largest difference allowed between logits, times the largest logit when that is above 1.
        compared: Returns the (B, T) positions to compare, 1 or True, from the tensors of a call; by default those
            that ``decoder_attention_mask`` or, without decoder ids, ``attention_mask`` marks as real.
        labelled: Rows of the test split in batches: the tensors of a call and ``labels``, (B, T) int64 aligned with the
            logits that they score, -100 where ignored, for perplexity; or (B,) classes, for accuracy.
        write_pytorch: Writes the weights to the given path; by default the module's parameters and buffers.

    Returns:
        The manifest: ``format_version``, ``inputs`` with named dimensions, ``example``, ``tolerance``, and ``formats``:
        for each ``format``, ``file``, ``status`` (``verified`` or ``failed``), ``stage`` of a failure (``export``:
        could not be made; ``parity``: wrong; ``quality``: a variant is inaccurate) and ``reason``, ``max_abs_error``,
        ``tolerance`` (allowed error), ``shapes``, ``sha256``, ``size_bytes``, ``opset``, ``note``, ``data`` (separate
        file of the weights). Variants have ``computes``, ``relative_size``, ``judged_by``, ``relative_change`` instead.

    Raises:
        DeploymentError: If a format is unknown, or the model itself fails or returns NaN at one of the shapes.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Embedding(16, 4), nn.Linear(4, 16))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = export_model(model, lambda b, t: {"input": torch.ones(b, t).long()}, folder, ["pytorch"])
        >>> made["formats"][0]["status"], made["formats"][0]["max_abs_error"]
        ('verified', 0.0)
    """
    wanted = _check_formats(formats)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = ExportSource(private_copy(module), inputs, max_length or LONGEST_UNLIMITED, write_pytorch)
    with tempfile.TemporaryDirectory(prefix="foundry-verify-") as scratch, _infrequent_garbage_collection():
        check = _make_check(source, wanted, compared or compared_positions, tolerance, Path(scratch))
        entries = _export_formats(source, wanted, folder, check, labelled)
    manifest = {"format_version": FORMAT_VERSION, **source.describe(), "tolerance": tolerance, "formats": entries}
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def _make_check(
    source: ExportSource, wanted: list[str], compared: Compared, tolerance: float, scratch: Path
) -> ParityCheck:
    cases = _reference_cases(source, wanted, compared)
    make = partial(make_cases, source.wrapper, source.inputs, compared=compared)
    check = ParityCheck(cases, scratch / "cases.safetensors", tolerance, make)
    _refuse_nondeterminism(source, check)
    write_cases(cases, check.file)
    return check


def _export_formats(
    source: ExportSource, wanted: list[str], folder: Path, check: ParityCheck, labelled: Iterable[Mapping[str, Tensor]]
) -> list[dict[str, Any]]:
    variants = [name for name in wanted if name in VARIANT_FORMATS]
    paths = {name: folder / FORMAT_FILES[name] for name in wanted if name not in variants}
    if variants:
        paths.setdefault("onnx", check.file.with_name(FORMAT_FILES["onnx"]))
    labels = label_cases(source, labelled, check.file.with_name("labelled.safetensors")) if variants else None
    # Another process verifies a file while this one writes the next.
    exports = [start(name, path, source, check) for name, path in paths.items()]
    entries = {export.name: finish(export, source) for export in exports}
    if variants:
        made = make_variants(variants, folder, paths["onnx"], entries["onnx"], check, labels)
        entries |= {entry["format"]: entry for entry in made}
    return [entries[name] for name in wanted]


def compared_positions(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Return the mask of the positions that have logits: the decoder's, or without decoder ids the only one."""
    if "decoder_input_ids" in tensors:
        return tensors.get("decoder_attention_mask")
    return tensors.get("attention_mask")


def _check_formats(formats: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(formats))
    for name in wanted:
        if name not in FORMAT_FILES:
            raise DeploymentError(
                f"There is no format {name!r}.{suggestion(name, FORMAT_FILES)}",
                f"Known formats: {', '.join(FORMAT_FILES)}.",
                "Choose from these.",
            )
    return wanted


def _reference_cases(source: ExportSource, wanted: list[str], compared: Compared) -> list[Case]:
    shapes = check_shapes(source.longest)
    try:
        # Before any capture, which then includes the tables that the model makes in its first calls.
        cases = make_cases(source.wrapper, source.inputs, shapes, compared)
        more = [shape for shape in _shapes_beyond_guards(source, wanted) if shape not in shapes]
        cases += make_cases(source.wrapper, source.inputs, more, compared)
    except EXPORTER_ERRORS as err:
        raise DeploymentError(
            f"The model itself fails at one of the (batch, length) pairs {shapes}: {type(err).__name__}: {err}",
            f"It must run for every batch and every length from 1 to {source.longest}.",
            "Run the validation pipeline, which shows where and why; fix the model and export it again.",
        ) from err
    for case in cases:
        if np.isnan(compared_logits(case, case.logits)).any():
            raise DeploymentError(
                f"The model returns values that are not a number at (batch, length) = ({case.batch}, {case.length}).",
                "Only a model with finite outputs can be verified and shipped.",
                "Train again with a lower training.learning_rate, or choose an earlier checkpoint.",
            )
    return cases


def _shapes_beyond_guards(source: ExportSource, wanted: list[str]) -> list[tuple[int, int]]:
    if any(FORMATS[name].is_captured for name in wanted):
        with contextlib.suppress(*EXPORTER_ERRORS):
            # A failure is reported when the format is written.
            source.program()
    return source.relaxed_shapes


def _refuse_nondeterminism(source: ExportSource, check: ParityCheck) -> None:
    if not check.accepts(source.wrapper, EXPORTER_ERRORS):
        raise DeploymentError(
            "The model returns different logits for the same input, in evaluation mode too.",
            "Only a deterministic model can be compared with its exported files.",
            "Look in forward for random numbers, or for F.dropout without training=self.training.",
        )


@contextlib.contextmanager
def _infrequent_garbage_collection() -> Iterator[None]:
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
