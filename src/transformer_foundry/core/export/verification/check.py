"""Result of checking one exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transformer_foundry.core.export.capture.exporter_patches import EXPORTER_ERRORS
from transformer_foundry.core.export.names import DATA_SUFFIX
from transformer_foundry.core.export.verification.parity import Case, compare, is_plain, write_cases
from transformer_foundry.core.export.verification.verifier_process import judge
from transformer_foundry.core.files.atomic import sha256_of

__all__ = ["ParityCheck", "delete", "describe_file"]


class ParityCheck:
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

    def extended(self, shapes: list[tuple[int, int]]) -> ParityCheck:
        """Return a check of ``shapes`` too, its cases kept in a file of their own."""
        known = {(case.batch, case.length) for case in self.cases}
        if known.issuperset(shapes):
            return self
        cases = self.cases + self._make([shape for shape in shapes if shape not in known])
        extended = ParityCheck(cases, self.file.with_name(f"more-{self.file.name}"), self._tolerance, self._make)
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


def describe_file(path: Path) -> dict[str, Any]:
    """Return name, sha256 and size of a file, and of the one that holds its weights if there is one."""
    described = {"file": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    data = path.with_name(path.name + DATA_SUFFIX)
    return described | ({"data": describe_file(data)} if data.is_file() else {})


def delete(path: Path) -> None:
    """Delete a file and the one that holds its weights."""
    for file in (path, path.with_name(path.name + DATA_SUFFIX)):
        file.unlink(missing_ok=True)
