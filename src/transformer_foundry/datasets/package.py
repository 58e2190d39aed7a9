"""Kedro dataset of the package of a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.publishing import Package, read_package

__all__ = ["PackageDataset"]


class PackageDataset(AbstractDataset[Package, Package]):
    """A folder with a package; a new one replaces the old one only when it is complete.

    The new package is copied to ``.FOLDER.new``, its manifest last; then the old folder becomes ``.FOLDER.old``, the
    new one takes its place, and the old one is deleted. After a crash at any point, the next use finds the newest
    complete one of the three.

    Args:
        filepath: The folder.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        # A run's name never starts with a dot, so these are no other run's package.
        self._new = self._folder.with_name(f".{self._folder.name}.new")
        self._old = self._folder.with_name(f".{self._folder.name}.old")
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """Folder of the package."""
        return self._folder

    def load(self) -> Package:
        """Return the package, its files verified.

        Raises:
            DeploymentError: If there is none, or a file is damaged.
        """
        self._recover()
        return read_package(self._folder)

    def save(self, data: Package) -> None:
        """Move ``data`` into place; its folder is gone afterwards.

        Raises:
            DeploymentError: If the folder holds something else than a package, or the package cannot be written.
        """
        self._recover()
        self._refuse_foreign_folder()
        shutil.rmtree(self._new, ignore_errors=True)
        try:
            _copy(data.folder, self._new)
        except OSError as err:
            shutil.rmtree(self._new, ignore_errors=True)
            raise DeploymentError(
                f"The package cannot be written to {self._folder}: {err}",
                "Expected space for a copy of it; an earlier package there is unchanged.",
                f"Free space, then run the pipeline again; the package is complete in {data.folder}.",
            ) from err
        if self._folder.exists():
            self._folder.rename(self._old)
        self._new.rename(self._folder)
        sync(self._folder.parent)
        shutil.rmtree(self._old, ignore_errors=True)
        if data.folder.resolve() != self._folder.resolve():
            shutil.rmtree(data.folder, ignore_errors=True)

    def _exists(self) -> bool:
        self._recover()
        return (self._folder / MANIFEST_FILE).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}

    def _recover(self) -> None:
        """Finish or undo a replacement that a crash has interrupted."""
        if not self._folder.exists():
            whole = next(filter(_is_whole, (self._new, self._old)), None)
            if whole is not None:
                whole.rename(self._folder)
        if self._folder.exists():
            shutil.rmtree(self._old, ignore_errors=True)

    def _refuse_foreign_folder(self) -> None:
        if self._folder.is_dir() and any(self._folder.iterdir()) and not (self._folder / MANIFEST_FILE).is_file():
            raise DeploymentError(
                f"{self._folder} holds files, but no package.",
                "The folder of a package is replaced as a whole.",
                "Move those files away, or choose another run.name.",
            )


def _is_whole(folder: Path) -> bool:
    try:
        read_package(folder)
    except DeploymentError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy the files of a package durably, the manifest last."""
    target.mkdir(parents=True)
    files = sorted((path for path in source.iterdir() if path.is_file()), key=lambda path: path.name == MANIFEST_FILE)
    for path in files:
        shutil.copyfile(path, target / path.name)
        sync(target / path.name)
    sync(target)
