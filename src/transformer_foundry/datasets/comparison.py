"""Kedro dataset of a comparison of models: one file that grows with every training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from transformer_foundry.core.experiments.comparison.run import CandidateResult
from transformer_foundry.core.files.atomic import make_folder
from transformer_foundry.core.files.json_lines import append_row, read_rows

__all__ = ["ComparisonDataset"]


class ComparisonDataset(AbstractDataset[CandidateResult, list[CandidateResult]]):
    """A file of JSON lines to which each new result is added.

    Loading returns the results of this session's comparison if there was one, else all of the file.

    Args:
        filepath: The file.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self._saved: list[CandidateResult] = []
        self.metadata = metadata

    def load(self) -> list[CandidateResult]:
        """Return the results; none if there is no file. An incomplete last line is left out."""
        return self._saved or self._read()

    def save(self, data: CandidateResult) -> None:
        """Add a result, unless the file has it."""
        if data.key not in {result.key for result in self._read()}:
            make_folder(self._path.parent)
            self._drop_incomplete_line()
            append_row(self._path, dataclasses.asdict(data))
        self._saved.append(data)

    def _drop_incomplete_line(self) -> None:
        """Remove a last line that a kill left incomplete: the next row would become a part of it."""
        if self._path.is_file() and not (content := self._path.read_bytes()).endswith(b"\n") and content:
            self._path.write_bytes(content[: content.rfind(b"\n") + 1])

    def _read(self) -> list[CandidateResult]:
        # JSON has no NaN: the loss of a training that failed is not in the file.
        return [CandidateResult(**{"loss": math.nan, **row}) for row in read_rows(self._path)]

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
