"""Compare an exported file's outputs with the model's at several shapes.

The shapes include other batches, length 1, the greatest length and lengths between, so that a file which is right only
at its example's shape fails. Importing this module loads no torch: the process that verifies an ONNX file needs none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "LONGEST_UNLIMITED",
    "Case",
    "ParityCheck",
    "ParityResult",
    "Run",
    "check_shapes",
    "compare",
    "compared_logits",
    "is_plain",
    "judge",
    "make_cases",
    "place_of",
    "read_cases",
    "write_cases",
]

LONGEST_UNLIMITED = 128
"""Longest length at which files of a model without a limit are verified."""

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""An opened file: named arrays of one call -> logits."""

# Beyond this, a value stands for minus infinity; it must agree to the relative tolerance below.
_HUGE = 1e4
_HUGE_TOLERANCE = 1e-3


def check_shapes(longest: int) -> list[tuple[int, int]]:
    """Return the (batch, length) pairs at which files are verified.

    Example:
        >>> check_shapes(64)
        [(1, 1), (4, 1), (6, 2), (5, 22), (2, 33), (1, 64)]
    """
    pairs = [(1, 1), (4, 1), (6, 2), (5, longest // 3 + 1), (2, longest // 2 + 1), (1, longest)]
    return list(dict.fromkeys((batch, min(length, longest)) for batch, length in pairs))


@dataclass(frozen=True)
class Case:
    """One call of the model and its result.

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
            # Stored before the call: a model may change its inputs in place.
            given = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
            logits = module(*tensors.values()).float().cpu().numpy()
            cases.append(Case(batch, length, given, logits, None if mask is None else mask.bool().cpu().numpy()))
    return cases


def compare(case: Case, logits: np.ndarray) -> tuple[float | None, str]:
    """Compare ``logits`` with those of ``case``.

    Returns:
        The largest absolute difference over the compared positions and an empty string; or None and what is wrong,
        if shapes differ or a value is huge, infinite or not a number on one side only.
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
    """Return where ``logits`` are scores, not minus infinity or a substitute such as -1e9 for a forbidden token.

    A substitute must not increase the error that is allowed for scores.
    """
    return np.asarray(np.abs(np.nan_to_num(logits, nan=np.inf)) < _HUGE)


@dataclass(frozen=True)
class ParityResult:
    """Result of comparing a file with the model.

    Attributes:
        rows: For each (batch, length) pair ``batch``, ``length``, ``max_abs_error`` (None if outputs could not be
            compared).
        reason: Why the file is wrong, empty if it is not.
    """

    rows: list[dict[str, Any]]
    reason: str = ""

    @property
    def max_abs_error(self) -> float | None:
        """Largest error over all pairs, None if one could not be compared."""
        errors = [row["max_abs_error"] for row in self.rows]
        return None if not errors or None in errors else max(errors)


def judge(rows: Sequence[Mapping[str, Any]], failure: str, bound: float) -> ParityResult:
    """Turn rows of ``batch, length, max_abs_error, problem`` into a result.

    Args:
        rows: The rows.
        failure: Why the file could not be run at all pairs, empty if it could.
        bound: Largest error that is allowed.
    """
    shown = [{key: row[key] for key in ("batch", "length", "max_abs_error")} for row in rows]
    if failure:
        return ParityResult(shown, failure)
    for row in rows:
        if row["problem"]:
            return ParityResult(shown, f"{row['problem']} {place_of(row)}")
    worst = max(rows, key=lambda row: float(row["max_abs_error"]), default=None)
    if worst is None or worst["max_abs_error"] <= bound:
        return ParityResult(shown)
    error = f"{worst['max_abs_error']:.3g} {place_of(worst)}"
    return ParityResult(shown, f"differs from the model by {error}; at most {bound:.3g} is allowed")


def place_of(row: Mapping[str, Any]) -> str:
    """Return at which (batch, length) pair ``row`` was found, for messages."""
    return f"at (batch, length) = ({row['batch']}, {row['length']})"


class ParityCheck:
    """Reference cases, the file that holds them, and the error that is allowed.

    Args:
        cases: The cases.
        file: Where they are kept for the processes that verify files.
        tolerance: Largest difference allowed, times the largest logit if that is above 1.
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

    def extended(self, shapes: Sequence[tuple[int, int]]) -> ParityCheck:
        """Return a check of ``shapes`` too, with a separate file of cases."""
        known = {(case.batch, case.length) for case in self.cases}
        if known.issuperset(shapes):
            return self
        cases = self.cases + self._make([shape for shape in shapes if shape not in known])
        extended = ParityCheck(cases, self.file.with_name(f"more-{self.file.name}"), self._tolerance, self._make)
        write_cases(cases, extended.file)
        return extended

    def rows(self, model: Callable[..., Tensor]) -> list[dict[str, Any]]:
        """Run ``model``, which takes tensors by position, on every case in this process."""
        import torch

        rows = []
        for case in self.cases:
            with torch.no_grad():
                logits = model(*(torch.from_numpy(value.copy()) for value in case.inputs.values()))
            error, problem = compare(case, logits.float().numpy())
            rows.append({"batch": case.batch, "length": case.length, "max_abs_error": error, "problem": problem})
        return rows

    def accepts(self, model: Callable[..., Tensor], failures: tuple[type[Exception], ...]) -> bool:
        """Return whether ``model`` agrees on every case; an exception of ``failures`` counts as disagreement."""
        try:
            return not judge(self.rows(model), "", self.bound).reason
        except failures:
            return False


def compared_logits(case: Case, logits: np.ndarray) -> np.ndarray:
    """Return the ``logits`` at compared positions; a classifier's (B, C) logits belong to whole rows."""
    mask = case.compared
    if mask is None or logits.ndim <= mask.ndim or logits.shape[: mask.ndim] != mask.shape:
        return logits
    return np.asarray(logits[mask])


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
    """Yield the cases of a file of ``write_cases``, one in memory at a time."""
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
