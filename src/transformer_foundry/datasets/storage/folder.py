"""Base of Kedro datasets of a folder: local or behind fsspec, with versions, and perhaps missing."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Generic, TypeVar

from kedro.io.core import AbstractVersionedDataset, DatasetError, Version

from transformer_foundry.core.base.errors import DataError, DeploymentError, ParameterError
from transformer_foundry.datasets.storage.arguments import InheritedArguments
from transformer_foundry.datasets.storage.location import open_location, refuse_version
from transformer_foundry.datasets.storage.remote_folder import RemoteFolder, default_cache

__all__ = ["FolderDataset"]

_log = logging.getLogger(__name__)

ContentT = TypeVar("ContentT")


class FolderDataset(InheritedArguments, AbstractVersionedDataset[ContentT, ContentT], Generic[ContentT]):
    """A folder that is complete or does not exist.

    A local folder is used as it is. One behind fsspec (``s3://bucket/folder``) is uploaded when it is saved, its main
    file last, and loaded from a local copy, which is verified and downloaded again only when the remote folder changes.

    Subclasses define ``MAIN_FILE``, ``_read`` and ``_write``.

    Args:
        filepath: The folder, with a protocol of fsspec if it is not on this machine.
        version: Set by Kedro for ``versioned: true``: each save is a new folder ``FILEPATH/VERSION/NAME``.
        credentials: Arguments of the file system of fsspec that are secret.
        fs_args: Other arguments of the file system.
        cache_dir: Where copies of a remote folder are kept; None: ``FOUNDRY_STORAGE_CACHE`` or the user's cache.
        metadata: Ignored; for users and plugins.
    """

    MAIN_FILE: ClassVar[str]
    """The file that is written last: without it the folder is unfinished."""

    WITHOUT_VERSIONS: ClassVar[tuple[str, str] | None] = None
    """Why there are no versions, and what to do instead of ``versioned: true``; None where there are."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if self.WITHOUT_VERSIONS is not None:
            refuse_version(version, *(text.format(filepath=filepath) for text in self.WITHOUT_VERSIONS))
        self._location = open_location(filepath, version, credentials, fs_args)
        super().__init__(
            filepath=PurePosixPath(self._location.path),
            version=version,
            exists_function=self._is_finished,
            glob_function=self._list_versions,
        )
        self._cache = default_cache() if cache_dir is None else Path(cache_dir)
        self._local_copy: Path | None = None
        self._last_copy: Path | None = None
        self._warned: set[str] = set()
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """The folder on this machine: of a remote one the copy that was saved or loaded last.

        Raises:
            DataError: If it has no version yet, or cannot be read.
        """
        if self._location.is_local:
            return Path(self._get_load_path())
        return self._local_copy or self._fetch()

    @property
    def address(self) -> str | None:
        """The URL of a folder on a server; None if it is on this machine."""
        return None if self._location.is_local else self._location.url

    @property
    def known_folder(self) -> Path | None:
        """The folder on this machine, without a download: None if it has no version or no local copy yet.

        The runner releases an entry that no node still reads: the copy is known after it, too.
        """
        if not self._location.is_local:
            return self._local_copy or self._last_copy
        try:
            return Path(self._get_load_path())
        except DatasetError:  # there is no version yet
            return None

    def load(self) -> ContentT:
        """Read the folder.

        Raises:
            DataError: If it is damaged or missing.
        """
        return self._read(self._fetch())

    def load_if_whole(self) -> ContentT | None:
        """Read the folder; None if it is missing or damaged.

        Raises:
            DataError: If the place cannot be reached: nothing is known about what is there.
        """
        if not self._exists():
            if self._location.is_local and self._is_begun():
                self._warn(self._damage())
            return None
        try:
            return self._read(self._fetch())
        except (DataError, DeploymentError) as err:
            if not self._location.is_local and not self._exists():
                raise
            self._warn(err.problem)
            return None

    def save(self, data: ContentT) -> None:
        """Write the folder, its main file last."""
        self._refuse_mixture()
        path = self._get_save_path()
        if self._location.is_local:
            self._write(data, Path(path))
            return
        source = self._source(data)
        with tempfile.TemporaryDirectory() as temporary:
            if source is None:
                self._write(data, source := Path(temporary) / path.name)
            self._local_copy = self._remote(path).store(source, self._cache)
        self._drop(data)

    def _warn(self, problem: str) -> None:
        """Say once that the folder is made again: several nodes of a command ask for what it holds."""
        if problem not in self._warned:
            self._warned.add(problem)
            _log.warning("%s is made again: %s", self._location.url, problem)

    def _read(self, folder: Path) -> ContentT:
        raise NotImplementedError

    def _write(self, data: ContentT, folder: Path) -> None:
        raise NotImplementedError

    def _is_whole(self, folder: Path) -> bool:
        """Return whether a finished local folder can be read, as far as that is known without reading all of it."""
        raise NotImplementedError

    def _source(self, data: ContentT) -> Path | None:  # noqa: ARG002 - for subclasses
        """Return the folder that ``data`` is in already, if it need not be written before it is uploaded."""
        return None

    def _drop(self, data: ContentT) -> None:
        """Remove what ``data`` occupies outside of its place."""

    def _exists(self) -> bool:
        try:
            path = self._get_load_path()
        except DatasetError:  # there is no version yet
            return False
        if self._location.is_local:
            return self._is_finished(str(path)) and self._is_whole(Path(path))
        return self._remote(path).exists()

    def _is_begun(self) -> bool:
        try:
            return self._is_finished(str(self._get_load_path()))
        except DatasetError:  # there is no version yet
            return False

    def _damage(self) -> str:
        try:
            self._read(self._fetch())
        except (DataError, DeploymentError) as err:
            return err.problem
        return "a file is missing or has another size than when it was written."

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._location.url, "version": self._version}

    def _release(self) -> None:
        super()._release()
        self._last_copy, self._local_copy = self._local_copy or self._last_copy, None

    def _fetch(self) -> Path:
        path = self._get_load_path()
        if self._location.is_local:
            return Path(path)
        self._local_copy = self._remote(path).fetch(self._cache)
        return self._local_copy

    def _remote(self, path: PurePosixPath) -> RemoteFolder:
        text = str(path).replace(str(self._filepath), self._location.path, 1)
        url = self._location.url + text.removeprefix(self._location.path)
        return RemoteFolder(self._location.fs, text, url, self.MAIN_FILE)

    def _is_finished(self, path: str) -> bool:
        if self._location.is_local:
            return (Path(path) / self.MAIN_FILE).is_file()
        return self._remote(PurePosixPath(path)).exists()

    def _list_versions(self, pattern: str) -> list[str]:
        # The pattern is FILEPATH/*/NAME; glob would take brackets in FILEPATH for a part of it.
        versions = Path(pattern).parent.parent
        if self._location.is_local:
            names = [path.name for path in versions.iterdir()] if versions.is_dir() else []
        else:
            remote = self._remote(self._filepath)
            names = [PurePosixPath(str(path).rstrip("/")).name for path in remote.folders()]
        return [str(self._filepath / name / self._filepath.name) for name in names]

    def _refuse_mixture(self) -> None:
        """Refuse versions inside of a folder without versions, which a later save without them would delete."""
        if self._version is not None and self._is_finished(str(self._filepath)):
            raise ParameterError(
                f"The catalog has 'versioned: true' for {self._location.url}, which has content without a version.",
                "Expected a folder that is new or has versions only.",
                "Choose another filepath, or move what is there to FILEPATH/2026-01-31T12.00.00.000Z/NAME.",
            )
