"""Write smaller variants of a verified ONNX file, score them in another process, keep those that predict as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.capture.torch_export import EXPORTER_ERRORS
from transformer_foundry.core.export.files import delete_file, describe_file
from transformer_foundry.core.export.formats.smaller_onnx import WRITERS
from transformer_foundry.core.export.formats.table import FORMAT_FILES
from transformer_foundry.core.export.verification.error_reasons import explain_error
from transformer_foundry.core.export.verification.parity import Case, ParityCheck, write_cases
from transformer_foundry.core.export.verification.quality import Score, judge_variant, score_logits
from transformer_foundry.core.export.verify_file import Verification

__all__ = ["Labelled", "label_cases", "make_variants"]

_SHOWN = ("batch", "length", "max_abs_error", "relative_error", "divergence")


@dataclass(frozen=True)
class Labelled:
    """Labelled rows in a file, and the model's own score on them."""

    file: Path
    score: Score


def label_cases(source: ExportSource, labelled: Iterable[Mapping[str, Tensor]], file: Path) -> Labelled | None:
    """Score the model on ``labelled`` and keep the rows in ``file``; return None if all labels are ignored.

    Raises:
        DeploymentError: If a batch lacks a tensor of the call, or labels do not fit the logits.
    """
    cases, scores = [], []
    for batch in labelled:
        if missing := [name for name in (*source.names, "labels") if name not in batch]:
            raise DeploymentError(
                f"Labelled rows lack {', '.join(missing)}; they have {', '.join(batch)}.",
                f"Expected the tensors of a call ({', '.join(source.names)}) and labels.",
                "Use the names of the tensors that inputs(batch, length) returns.",
            )
        tensors = [batch[name].cpu() for name in source.names]
        labels = batch["labels"].cpu().numpy()
        given = {name: tensor.numpy().copy() for name, tensor in zip(source.names, tensors, strict=True)}
        with torch.no_grad():
            logits = source.wrapper(*tensors).float().numpy()
        has_several = labels.ndim == logits.ndim == 2 and labels.shape[1] <= logits.shape[1]  # labels of a text
        if logits.shape[:-1] != labels.shape and not has_several:
            raise DeploymentError(
                f"Labels of shape {labels.shape} do not fit logits of shape {logits.shape}.",
                "Expected one label for each position, or for each row, that has logits.",
                "Align the labels with the logits: a causal model's position t predicts token t + 1.",
            )
        scores.append(score_logits(logits, labels))
        rows, *rest = tensors[0].shape
        cases.append(Case(rows, rest[0] if rest else 1, given, np.ascontiguousarray(labels)))
    total = Score.total(scores)
    if total is None:
        return None
    write_cases(cases, file)
    return Labelled(file, total)


def make_variants(
    names: Sequence[str],
    folder: Path,
    onnx: Path,
    onnx_entry: Mapping[str, Any],
    check: ParityCheck,
    labelled: Labelled | None,
) -> list[dict[str, Any]]:
    """Write the variants ``names`` of the file ``onnx`` and return their entries of the manifest."""
    entries = []
    for name in names:
        entry: dict[str, Any] = {"format": name, "file": None, "status": "failed"}
        if onnx_entry["status"] != "verified":
            reason = f"it is made from the ONNX file, which is missing: {onnx_entry['reason']}"
            entries.append(entry | {"stage": "export", "reason": reason})
            continue
        path = folder / FORMAT_FILES[name]
        reasons = []
        for computes, write in WRITERS[name]:
            tried = entry | _tried(name, write, onnx, path, check, labelled) | {"computes": computes}
            if tried["status"] == "verified":
                tried |= {"relative_size": _size(tried) / _size(onnx_entry), "opset": onnx_entry["opset"]}
                break
            reasons.append(f"computing in {computes}: {tried['reason']}")
        key = "note" if tried["status"] == "verified" else "reason"
        entries.append(tried | ({key: "; ".join(reasons)} if reasons else {}))
    return entries


def _tried(
    name: str,
    write: Callable[[Path, Path], None],
    onnx: Path,
    path: Path,
    check: ParityCheck,
    labelled: Labelled | None,
) -> dict[str, Any]:
    try:
        write(onnx, path)
    except _writing_errors() as err:
        delete_file(path)
        return {"status": "failed", "stage": "export", "reason": explain_error(err)}
    process = Verification(name, path, check.file, labelled.file if labelled else None)
    rows, failure = process.wait()
    score = Score(**process.score) if process.score else None
    reason, judged = judge_variant(rows, failure, score, labelled.score if labelled else None)
    errors = [row["max_abs_error"] for row in rows]
    worst = None if not errors or None in errors else max(errors)
    shown = [{key: row[key] for key in _SHOWN} for row in rows]
    entry = {"max_abs_error": worst, "shapes": shown, **judged}
    if reason:
        delete_file(path)
        return entry | {"status": "failed", "stage": "quality", "reason": reason}
    return entry | {"status": "verified", **describe_file(path)}


def _writing_errors() -> tuple[type[BaseException], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    own = (
        runtime.Fail,
        runtime.InvalidGraph,
        runtime.InvalidArgument,
        runtime.NotImplemented,
        runtime.RuntimeException,
    )
    return (*EXPORTER_ERRORS, *own)


def _size(entry: Mapping[str, Any]) -> int:
    return int(entry["size_bytes"] + entry.get("data", {}).get("size_bytes", 0))
