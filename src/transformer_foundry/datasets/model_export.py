"""Kedro dataset of an exported model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from transformer_foundry.core.models import ModelSource, approve, read_export
from transformer_foundry.core.models.options import TRIAL_RUN_SECONDS

__all__ = ["ModelExportDataset"]


class ModelExportDataset(AbstractDataset[None, ModelSource]):
    """Reads ``model.py`` and ``config.json`` from a folder, a zip file or a gist; never writes.

    Args:
        source: Path of a folder or zip file, a gist id or a gist URL.
        cache_dir: Folder in which what was downloaded or unpacked is kept.
        revision: Revision of the gist; the newest if None.
        trust_code: Approve all external code of the source.
        sha256: Required digest of the export; approves this content.
        first_run_seconds: Time limit of the trial run: the first import, construction and call of the model.
        metadata: Ignored; for users and plugins.
    """

    def __init__(
        self,
        *,
        source: str,
        cache_dir: str,
        revision: str | None = None,
        trust_code: bool = False,
        sha256: str | None = None,
        first_run_seconds: float = TRIAL_RUN_SECONDS,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._source = source
        self._revision = revision
        self._cache_dir = Path(cache_dir)
        self._trust_code, self._sha256, self._first_run_seconds = trust_code, sha256, first_run_seconds
        self._export: ModelSource | None = None
        self.metadata = metadata

    def load(self) -> ModelSource:
        """Return the export, approved to run; all nodes of a session get the same one, even if the source changes.

        ``GITHUB_TOKEN`` in the environment raises GitHub's limit of requests.

        Raises:
            ModelError: If it cannot be read, is not trusted, or its trial run exceeds its limits.
        """
        if self._export is None:
            token = os.environ.get("GITHUB_TOKEN")
            export = read_export(self._source, revision=self._revision, cache_dir=self._cache_dir, token=token)
            self._export = approve(
                export,
                trust_code=self._trust_code,
                sha256=self._sha256,
                first_run_seconds=self._first_run_seconds,
            )
        return self._export

    def save(self, data: None) -> NoReturn:  # noqa: ARG002 - Kedro calls it so
        """Refuse: an export is made in Transformer Builder."""
        raise DatasetError(f"The model export {self._source} is read-only.")

    def _exists(self) -> bool:
        # Whether a gist exists is known only after a request, and reading it raises an error with the reason.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, "revision": self._revision}
