"""Reference outputs of a model at several shapes, and the comparison of a file's outputs with them.

The shapes are chosen so that a file which is right only at its example's shape cannot pass: other batches, length 1,
the greatest length, lengths between. numpy only: the process that verifies an ONNX file needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Case", "compare", "compared_logits", "is_plain", "make_cases", "read_cases", "write_cases"]

_HUGE = 1e4
_HUGE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """One call of the model and what it returned.

    Attributes:
        batch: Rows.
        length: Tokens in a row.
        inputs: Argument -> tensor of the call.
        logits: What the model returned, float32.
        compared: (B, T) bool, True where logits are compared; None compares everything.
    """

    batch: int
    length: int
    inputs: Mapping[str, np.ndarray]
    logits: np.ndarray
    compared: np.ndarray | None = None


def make_cases(
    module: nn.Module,
    inputs: Callable[[int, int], Mapping[str, Tensor]],
    shapes: list[tuple[int, int]],
    compared: Callable[[Mapping[str, Tensor]], Tensor | None],
) -> list[Case]:
    """Call ``module``, which returns logits, once for each (batch, length) pair of ``shapes``."""
    import torch

    cases = []
    with torch.no_grad():
        for batch, length in shapes:
            tensors = inputs(batch, length)
            mask = compared(tensors)
            # A model may change its inputs in place; what is stored is what it was given.
            given = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
            logits = module(*tensors.values()).float().cpu().numpy()
            cases.append(Case(batch, length, given, logits, None if mask is None else mask.bool().cpu().numpy()))
    return cases


def compare(case: Case, logits: np.ndarray) -> tuple[float | None, str]:
    """Compare ``logits`` with those of ``case``.

    Returns:
        The largest absolute difference over the compared positions and an empty string; or None and what is wrong,
        when shapes differ or a value is huge, infinite or not a number on one side only.
    """
    if logits.shape != case.logits.shape:
        return None, f"output of shape {logits.shape} instead of {case.logits.shape}"
    expected, found = (compared_logits(case, values).astype(np.float64) for values in (case.logits, logits))
    plain = is_plain(expected)
    if not np.isfinite(found[plain]).all() or not np.allclose(
        expected[~plain], found[~plain], rtol=_HUGE_TOLERANCE, equal_nan=True
    ):
        return None, "values that are huge, infinite or not a number where the model's are not"
    return float(np.abs(expected[plain] - found[plain]).max(initial=0.0)), ""


def is_plain(logits: np.ndarray) -> np.ndarray:
    """Return where ``logits`` are scores: a model may forbid a token with minus infinity, or -1e9 in its stead.

    Such a stand-in must not widen what is allowed for the scores.
    """
    return np.abs(np.nan_to_num(logits, nan=np.inf)) < _HUGE


def compared_logits(case: Case, logits: np.ndarray) -> np.ndarray:
    """Return those ``logits`` that count: at compared positions; a classifier's (B, C) logits belong to whole rows."""
    mask = case.compared
    if mask is None or logits.ndim <= mask.ndim or logits.shape[: mask.ndim] != mask.shape:
        return logits
    return logits[mask]


def write_cases(cases: list[Case], path: Path) -> None:
    """Write ``cases`` to one safetensors file."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for index, case in enumerate(cases):
        named = {f"input.{name}": value for name, value in case.inputs.items()} | {"logits": case.logits}
        if case.compared is not None:
            named["compared"] = case.compared
        tensors |= {f"{index}.{name}": np.ascontiguousarray(value) for name, value in named.items()}
    layout = [{"batch": case.batch, "length": case.length, "inputs": list(case.inputs)} for case in cases]
    save_file(tensors, path, metadata={"cases": json.dumps(layout)})


def read_cases(path: Path) -> Iterator[Case]:
    """Yield what ``write_cases`` has written, one case in memory at a time."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        layout: list[dict[str, Any]] = json.loads(file.metadata()["cases"])
        names = set(file.keys())
        for index, entry in enumerate(layout):
            yield Case(
                entry["batch"],
                entry["length"],
                {name: file.get_tensor(f"{index}.input.{name}") for name in entry["inputs"]},
                file.get_tensor(f"{index}.logits"),
                file.get_tensor(f"{index}.compared") if f"{index}.compared" in names else None,
            )
