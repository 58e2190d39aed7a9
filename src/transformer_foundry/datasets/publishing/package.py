"""Kedro dataset of the package of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import ClassVar

from kedro_datasets._typing import JSONPreview  # kedro-viz chooses the drawing by this annotation

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export.files import NATIVE_FOLDER
from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.publishing import Package, read_package
from transformer_foundry.core.publishing.package.package import CARD_FILE, package_files
from transformer_foundry.core.system.process import remove_build_folder
from transformer_foundry.datasets.storage.folder import FolderDataset

__all__ = ["PackageDataset"]


class PackageDataset(FolderDataset[Package]):
    """A folder with a package; a new one replaces the old one only when it is complete.

    On this machine the new package is copied to ``.FOLDER.new``, its manifest last; then the old folder becomes
    ``.FOLDER.old``, the new one takes its place, and the old one is deleted. After a crash at any point, the next use
    finds the newest complete one of the three. Behind fsspec there is no such exchange: ``versioned: true`` keeps the
    old package while the new one is uploaded.

    The arguments are those of ``FolderDataset``. Saving copies a package: only the temporary folder that this
    process has built it in is gone afterwards.
    """

    MAIN_FILE: ClassVar[str] = MANIFEST_FILE

    def preview(self) -> JSONPreview:
        """Return the manifest without the digests of the files for kedro-viz."""
        # Without load, which computes the sha256 of every file.
        manifest = json.loads((self.folder / MANIFEST_FILE).read_text(encoding="utf-8")) if self.exists() else {}
        manifest["files"] = sorted(manifest.get("files", {}))
        return JSONPreview(json.dumps(manifest))

    def _read(self, folder: Path) -> Package:
        _recover(folder)
        return read_package(folder)

    def _write(self, data: Package, folder: Path) -> None:
        """Copy ``data`` into place, and remove the folder that it was built in.

        Raises:
            DeploymentError: If ``data`` is gone or damaged, the folder holds something else, or it cannot be written.
        """
        _recover(folder)
        if data.folder.resolve() == folder.resolve():
            return  # a package that was loaded from here is kept
        _require_manifest(data.folder)
        package = read_package(data.folder)
        _refuse_foreign_folder(folder)
        new, old = _beside(folder)
        shutil.rmtree(new, ignore_errors=True)
        try:
            _copy(package, new)
        except OSError as err:
            shutil.rmtree(new, ignore_errors=True)
            raise DeploymentError(
                f"The package cannot be written to {folder}: {err}",
                "Expected space for a copy of it; an earlier package there is unchanged.",
                f"Free space, then run the pipeline again; the package is complete in {data.folder}.",
            ) from err
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
        self._drop(data)

    def _is_finished(self, path: str) -> bool:
        if self._location.is_local:
            _recover(Path(path))
        return super()._is_finished(path)

    def _is_whole(self, folder: Path) -> bool:
        try:
            files = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
            sizes = {name: file.get("size_bytes") for name, file in files.items() if name != CARD_FILE}
            return all((folder / name).stat().st_size == size for name, size in sizes.items() if size is not None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False

    def _source(self, data: Package) -> Path | None:
        _require_manifest(data.folder)
        files = set(package_files(read_package(data.folder)))
        present = {path.relative_to(data.folder).as_posix() for path in data.folder.rglob("*") if not path.is_dir()}
        # A foreign package may lie beside links to any file of this machine: then its own files are copied first.
        return data.folder if present == files else None

    def _drop(self, data: Package) -> None:
        remove_build_folder(data.folder)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Return the places of the new and the old package; a run's name never starts with a dot, so these are no run's."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _recover(folder: Path) -> None:
    """Finish or undo a replacement that a crash has interrupted."""
    new, old = _beside(folder)
    if not folder.exists():
        whole = next(filter(_is_complete, (new, old)), None)
        if whole is not None:
            whole.rename(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)


def _require_manifest(folder: Path) -> None:
    """Refuse a package without files, which would replace one that has them."""
    if not (folder / MANIFEST_FILE).is_file():
        raise DeploymentError(
            f"There is no complete package in {folder}: it was deleted, or moved when it was saved before.",
            f"Expected a folder with {MANIFEST_FILE}; a package that was just built can be saved once.",
            "Give the entry between two nodes the type PackageDataset, and save what it loads.",
        )


def _refuse_foreign_folder(folder: Path) -> None:
    content = list(folder.iterdir()) if folder.is_dir() else []
    if content and (
        not (folder / MANIFEST_FILE).is_file() or any(path.is_dir() and path.name != NATIVE_FOLDER for path in content)
    ):
        raise DeploymentError(
            f"{folder} holds files or folders that belong to no package.",
            "The folder of a package is replaced as a whole.",
            "Move them away, or choose another run.name.",
        )


def _is_complete(folder: Path) -> bool:
    try:
        read_package(folder)
    except DeploymentError:
        return False
    return True


def _copy(package: Package, target: Path) -> None:
    """Copy the files of a package durably, the manifest last; others in its folder may be links to anything."""
    target.mkdir(parents=True)
    names = package_files(package)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package.folder / name, target / name)
        sync(target / name)
    for folder in {target, *((target / name).parent for name in names)}:
        sync(folder)
