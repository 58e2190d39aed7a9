"""Kedro dataset of an exported model."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import PurePosixPath
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import Version

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.files.atomic import replace_file
from transformer_foundry.core.models import ModelSource, approve, read_export
from transformer_foundry.core.models.options import TRIAL_RUN_SECONDS
from transformer_foundry.datasets.storage.location import (
    Location,
    explain_storage_errors,
    local_path,
    open_location,
    refuse_version,
)

__all__ = ["ModelExportDataset"]

_FILES = ("model.py", "config.json")
_MOST_BYTES = 32 * 2**20
"""Largest file that is downloaded: exports have code and sizes, but no weights."""


class ModelExportDataset(AbstractDataset[None, ModelSource]):
    """Reads ``model.py`` and ``config.json`` from a folder, a zip file or a gist; never writes.

    A folder or zip file behind fsspec (``s3://bucket/gpt``) is downloaded; like a gist it is external code, which needs
    approval.

    Args:
        source: Path of a folder or zip file, a gist id or a gist URL.
        cache_dir: Folder in which what was downloaded or unpacked is kept.
        revision: Revision of the gist; the newest if None.
        trust_code: Approve all external code of the source.
        sha256: Required digest of the export; approves this content.
        first_run_seconds: Time limit of the trial run: the first import, construction and call of the model.
        version: Refused: an export is never written.
        credentials: Arguments of the file system of fsspec that are secret.
        fs_args: Other arguments of the file system.
        metadata: Ignored; for users and plugins.

    Raises:
        ParameterError: If ``cache_dir`` is not on this machine, for ``versioned: true``, or for a protocol that cannot
            be used.
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
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        refuse_version(version, f"The export {source} is read-only.", "Remove 'versioned'; a gist has 'revision'.")
        self._source = source
        self._revision = revision
        self._cache_dir = local_path(
            cache_dir, "Downloaded exports are kept in a folder of this machine.", "Set cache_dir to a local path."
        )
        self._location = _remote_location(source, credentials, fs_args)
        self._trust_code, self._sha256, self._first_run_seconds = trust_code, sha256, first_run_seconds
        self._export: ModelSource | None = None
        self.metadata = metadata

    @property
    def source(self) -> str:
        """The path, gist or address of the export, as configured."""
        return self._source

    @property
    def revision(self) -> str | None:
        """The revision of the gist, as configured."""
        return self._revision

    def load(self) -> ModelSource:
        """Return the export, approved to run; all nodes of a session get the same one, even if the source changes.

        ``GITHUB_TOKEN`` in the environment raises GitHub's limit of requests.

        Raises:
            ModelError: If it cannot be read, is not trusted, or its trial run exceeds its limits.
            DataError: If the file system of fsspec cannot be read.
        """
        if self._export is None:
            self._export = approve(
                self.read(),
                trust_code=self._trust_code,
                sha256=self._sha256,
                first_run_seconds=self._first_run_seconds,
            )
        return self._export

    def save(self, data: None) -> NoReturn:  # noqa: ARG002 - Kedro calls it so
        """Refuse: an export is made in Transformer Builder."""
        raise DatasetError(f"The model export {self._source} is read-only.")

    def read(self) -> ModelSource:
        """Return the export as it is now, without running or approving its code."""
        if self._location is None:
            token = os.environ.get("GITHUB_TOKEN")
            return read_export(self._source, revision=self._revision, cache_dir=self._cache_dir, token=token)
        export = read_export(self._download(self._location), cache_dir=self._cache_dir)
        # What is at a URL may change without the user: it is no local code.
        return dataclasses.replace(export, source=self._source, is_local=False, is_trusted=False)

    def _download(self, location: Location) -> str:
        """Return the local copy of a folder or zip file; it is small, so it is downloaded for each session."""
        path = PurePosixPath(location.path)
        target = self._cache_dir / "remote" / hashlib.sha256(self._source.encode()).hexdigest()[:16] / path.name
        is_archive = path.suffix == ".zip"
        files = {location.path: target} if is_archive else {f"{location.path}/{name}": target / name for name in _FILES}
        with explain_storage_errors(location.url):
            location.fs.invalidate_cache()
            for remote, local in files.items():
                try:
                    size = int(location.fs.info(remote)["size"] or 0)
                except FileNotFoundError as err:
                    raise ModelError(
                        f"There is no file {remote}.",
                        "Expected a folder with model.py and config.json, or a zip file of one.",
                        "Set model.source to the path of the export.",
                    ) from err
                if size > _MOST_BYTES:
                    raise ModelError(
                        f"{remote} has {size / 2**20:.0f} MiB.",
                        f"Expected at most {_MOST_BYTES // 2**20} MiB: an export has code and sizes, but no weights.",
                        "Set model.source to the path of the export.",
                    )
                local.parent.mkdir(parents=True, exist_ok=True)
                replace_file(local, bytes(location.fs.cat_file(remote)), is_shared=True)
        return str(target)

    def _exists(self) -> bool:
        # Whether a gist exists is known only after a request, and reading it raises an error with the reason.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, "revision": self._revision}


def _remote_location(
    source: str, credentials: dict[str, Any] | None, fs_args: dict[str, Any] | None
) -> Location | None:
    """Return the place of a source behind fsspec; None for a local path or a gist."""
    if "://" not in source or source.startswith(("http://", "https://")):
        return None
    location = open_location(source, None, credentials, fs_args)
    return location if not location.is_local else None
