"""A folder behind fsspec: uploaded so that nothing half written looks finished, read from a verified local copy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.datasets.storage.location import explain_storage_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["LISTING_FILE", "RemoteFolder", "default_cache"]

LISTING_FILE = "foundry_files.json"
"""Size and sha256 of every file of a remote folder by name; written last."""

Listing: TypeAlias = Mapping[str, Mapping[str, Any]]


def default_cache() -> Path:
    """Return the folder of local copies: ``FOUNDRY_STORAGE_CACHE``, or a folder in the user's cache."""
    own = os.environ.get("FOUNDRY_STORAGE_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(own) if own else Path(root) / "transformer-foundry" / "storage"


@dataclass(frozen=True)
class RemoteFolder:
    """A folder behind fsspec.

    Attributes:
        fs: The file system.
        path: Path of the folder in it.
        url: Path for messages.
        main_file: The file without which the folder is not finished.
    """

    fs: AbstractFileSystem
    path: str
    url: str
    main_file: str

    def exists(self) -> bool:
        """Return whether the folder is finished.

        Raises:
            DataError: If that cannot be known.
        """
        # fs.exists answers False to any error, a wrong password too.
        with explain_storage_errors(self.url):
            self.fs.invalidate_cache()
            try:
                self.fs.info(self._join(self.main_file))
            except FileNotFoundError:
                return False
            return True

    def folders(self) -> list[str]:
        """Return the names of what is in the folder; none if it does not exist.

        Raises:
            DataError: If that cannot be known.
        """
        with explain_storage_errors(self.url):
            self.fs.invalidate_cache()
            try:
                return [str(path) for path in self.fs.ls(self.path, detail=False)]
            except FileNotFoundError:
                return []

    def fetch(self, cache: Path) -> Path:
        """Return a verified local copy, downloaded unless ``cache`` has the same files.

        Raises:
            DataError: If the folder is not finished, cannot be read, or differs from its listing.
        """
        with explain_storage_errors(self.url):
            self.fs.invalidate_cache()
            files = self._read_listing() or self._list()
        if self.main_file not in files:
            raise DataError(
                f"There is no finished folder at {self.url}.",
                f"Expected {self.main_file}, which is written last.",
                "Run the pipeline that makes it, or correct the path in the catalog.",
            )
        folder = cache / _digest(files) / PurePosixPath(self.path).name
        if not _holds(folder, files):
            self._download(files, folder)
        return folder

    def store(self, folder: Path, cache: Path) -> Path:
        """Upload a local folder, its main file and the listing last, and return its copy in ``cache``.

        A folder that is there already is not uploaded again. If the upload is interrupted, the remote folder is
        unfinished.

        Raises:
            DataError: If it cannot be written.
        """
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        files = {
            name: {"size": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
            for name in names
            if name != LISTING_FILE
        }
        with explain_storage_errors(self.url):
            self.fs.invalidate_cache()
            if not (self._read_listing() == files and self.exists()):
                self._upload(folder, files)
            self.fs.invalidate_cache()
        kept = cache / _digest(files) / PurePosixPath(self.path).name
        if not _holds(kept, files):
            _place(lambda target: _copy_files(folder, files, target), kept, files)
        return kept

    def _upload(self, folder: Path, files: Listing) -> None:
        earlier = set(self._read_listing() or {})
        for name in (LISTING_FILE, self.main_file):
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self._join(name))
        for name in sorted(files, key=lambda name: name == self.main_file):
            self.fs.put_file(str(folder / name), self._join(name))
        self.fs.pipe_file(self._join(LISTING_FILE), json.dumps({"files": files}, sort_keys=True).encode())
        # Files that others have put there stay: the path may be that of a whole bucket.
        for name in earlier - files.keys():
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self._join(name))

    def _download(self, files: Listing, folder: Path) -> None:
        def fill(target: Path) -> None:
            with explain_storage_errors(self.url):
                for name in files:
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    self.fs.get_file(self._join(name), str(target / name))

        _place(fill, folder, files)
        if not _holds(folder, files):
            shutil.rmtree(folder.parent, ignore_errors=True)
            raise DataError(
                f"The files at {self.url} differ from their listing.",
                "Expected every file with the size and sha256 of when it was written; perhaps it is being replaced.",
                "Try again; if that does not help, run the pipeline that makes it.",
            )

    def _read_listing(self) -> dict[str, dict[str, Any]] | None:
        try:
            files = json.loads(self.fs.cat_file(self._join(LISTING_FILE)))["files"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None
        return files if isinstance(files, dict) and all(_is_inside(name) for name in files) else None

    def _list(self) -> dict[str, dict[str, Any]]:
        """Return the files of a folder that was copied there without a listing, and what tells a change of them."""
        root = str(self.fs._strip_protocol(self.path))
        try:
            found = self.fs.find(self.path, detail=True)
        except FileNotFoundError:
            return {}
        named = {posixpath.relpath(str(self.fs._strip_protocol(path)), root): info for path, info in found.items()}
        return {
            name: {"size": info["size"], "properties": hashlib.sha256(repr(info).encode()).hexdigest()}
            for name, info in named.items()
            if name != LISTING_FILE and _is_inside(name)
        }

    def _join(self, name: str) -> str:
        return f"{self.path}/{name}"


def _place(fill: Callable[[Path], None], folder: Path, files: Listing) -> None:
    """Fill a new folder and move it to its place; a process that is killed, or a second one, does no harm.

    Raises:
        DataError: If the disk cannot be written.
    """
    parent = folder.parent
    partial = parent.with_name(f".{parent.name}-{uuid.uuid4().hex[:8]}")
    try:
        (partial / folder.name).mkdir(parents=True)
        fill(partial / folder.name)
        if parent.exists() and not _holds(folder, files):
            shutil.rmtree(parent, ignore_errors=True)
        with contextlib.suppress(FileExistsError):  # another process was first
            _rename(partial, parent)
    except OSError as err:
        raise DataError(
            f"The local copy {folder} cannot be written: {err.strerror or err}.",
            "Expected space for a copy of the remote folder.",
            "Free space, or set FOUNDRY_STORAGE_CACHE to a folder on another disk.",
        ) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as err:  # "directory not empty", or on Windows "access denied"
        if target.is_dir():
            raise FileExistsError(str(target)) from err
        raise


def _copy_files(source: Path, files: Listing, target: Path) -> None:
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _holds(folder: Path, files: Listing) -> bool:
    """Return whether a local folder has these files, by size and, where it is known, by sha256."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected["size"]:
            return False
        if "sha256" in expected and sha256_of(path) != expected["sha256"]:
            return False
    return True


def _digest(files: Listing) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and name not in ("", ".")
