"""Kedro dataset of a comparison of models: one file that grows with every training."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import Version

from transformer_foundry.core.files.atomic import make_folder, replace_file
from transformer_foundry.core.files.json_lines import parse_rows, row_text
from transformer_foundry.core.studies.comparison.run import CandidateResult
from transformer_foundry.datasets.storage.location import explain_storage_errors, open_location, refuse_version

__all__ = ["ComparisonDataset"]


class ComparisonDataset(AbstractDataset[CandidateResult, list[CandidateResult]]):
    """A file of JSON lines, one for each result; the one that was saved last is the last one.

    Loading returns the results of this session's comparison if there was one, else all of the file. It exists if the
    last comparison is finished.

    Args:
        filepath: The file, with a protocol of fsspec if it is not on this machine.
        version: Refused: a comparison continues an earlier one.
        credentials: Arguments of the file system of fsspec that are secret.
        fs_args: Other arguments of the file system.
        metadata: Ignored; for users and plugins.

    Raises:
        ParameterError: For ``versioned: true`` or a protocol that cannot be used.
    """

    # The results of the session are in memory.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        refuse_version(
            version,
            f"The comparison in {filepath} continues with each command.",
            "Remove 'versioned', or set run.name.",
        )
        self._location = open_location(filepath, None, credentials, fs_args)
        self._saved: list[CandidateResult] = []
        self.metadata = metadata

    @property
    def place(self) -> str:
        """What two entries of one comparison have in common."""
        return str(Path(self._location.path).absolute()) if self._location.is_local else self._location.url

    def load(self) -> list[CandidateResult]:
        """Return the results; none if there is no file. An incomplete last line is left out."""
        return list(self._saved) or self._read()

    def save(self, data: CandidateResult) -> None:
        """Put a result at the end of the file, in place of an earlier one of the same training."""
        kept = [result for result in self._read() if result.key != data.key]
        self._write("".join(row_text(dataclasses.asdict(result)) for result in [*kept, data]))
        self._saved.append(data)

    def is_readable(self) -> bool:
        """Return whether there is a result, also of a comparison that was interrupted."""
        return bool(self._read())

    def _read(self) -> list[CandidateResult]:
        # JSON has no NaN: the loss of a training that failed is not in the file.
        known = {field.name for field in dataclasses.fields(CandidateResult)}
        rows = [{"loss": math.nan, **row} for row in parse_rows(self._text())]
        return [CandidateResult(**{key: value for key, value in row.items() if key in known}) for row in rows]

    def _text(self) -> str:
        location = self._location
        if location.is_local:
            path = Path(location.path)
            return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        with explain_storage_errors(location.url):
            location.fs.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                return bytes(location.fs.cat_file(location.path)).decode("utf-8", errors="replace")
        return ""

    def _write(self, text: str) -> None:
        if self._location.is_local:
            path = Path(self._location.path)
            make_folder(path.parent)
            replace_file(path, text)
            return
        with explain_storage_errors(self._location.url):
            self._location.fs.pipe_file(self._location.path, text.encode())

    def _exists(self) -> bool:
        results = self._read()
        return bool(results) and results[-1].remaining == 0

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._location.url}
