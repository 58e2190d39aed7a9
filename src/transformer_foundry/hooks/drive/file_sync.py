"""Copy everything that is made beside the checkpoints: tokens, tokenizer, study, reports, package.

Each copy is a new folder ``<copy>/<path under data_dir>/<number>-<token>/`` with a manifest written last, so that an
incomplete copy is never used and two machines overwrite nothing of each other.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import copy_file
from transformer_foundry.core.files.folder_manifest import (
    MANIFEST_FILE,
    is_finished,
    manifest_text,
    read_manifest,
    verify_folder,
)
from transformer_foundry.hooks.drive.verified_copy import copy_files

__all__ = ["FileSync"]

_log = logging.getLogger(__name__)

KEPT_COPIES = 2
"""The newest one may not be uploaded yet."""

_DATABASE_SUFFIX = ".db"


class FileSync:
    """Copies files and folders of a data folder and restores those that are missing.

    Args:
        data_dir: Root of what is copied.
        copy_folder: Root of the copies.
    """

    def __init__(self, data_dir: Path, copy_folder: Path) -> None:
        self._data_dir, self.copy_folder = data_dir, copy_folder
        self._pending: dict[Path, None] = {}

    def note(self, path: Path) -> None:
        """Mark ``path`` for the next update."""
        self._pending[path] = None

    def update(self) -> None:
        """Copy everything that was marked since the last update.

        Raises:
            OSError: If something cannot be read or written; it stays marked.
            CheckpointError: If a copy differs from what was written.
        """
        for path in list(self._pending):
            if path.exists():
                self._copy(path)
            self._pending.pop(path, None)

    def restore(self, path: Path) -> bool:
        """Restore ``path`` if it is missing and has an intact copy; return whether it was restored.

        Raises:
            OSError: If the copy cannot be read.
        """
        if path.exists():
            return False
        for copy in reversed(self._copies(path)):
            try:
                names = verify_folder(copy)["files"]
            except CheckpointError as err:
                _log.warning("%s is skipped: %s", copy, err.problem)
                continue
            self._restore_from(copy, names, path)
            return True
        return False

    def _restore_from(self, copy: Path, names: Mapping[str, Any], path: Path) -> None:
        # In a folder beside it first: a kill leaves nothing or everything.
        beside = path.with_name(f"{path.name}.restored")
        shutil.rmtree(beside, ignore_errors=True)
        for name in names:
            copy_file(copy / name, beside / name)
        is_file = read_manifest(copy)["is_file"]
        (beside / path.name if is_file else beside).replace(path)
        shutil.rmtree(beside, ignore_errors=True)

    def _copy(self, path: Path) -> None:
        with _readable(path) as source:
            files = _files_of(source)
            if source.is_file():
                files = {path.name: source}
            copies = self._copies(path)
            values = {"is_file": source.is_file()}
            if copies and _is_same(copies[-1], files, values):
                return
            number = 1 + max((int(copy.name.split("-")[0]) for copy in copies), default=0)
            target = self._folder_of(path) / f"{number:06d}-{uuid.uuid4().hex[:6]}"
            copy_files(files, target, values)
        for copy in [*copies, target][:-KEPT_COPIES]:
            shutil.rmtree(copy)

    def _copies(self, path: Path) -> list[Path]:
        folder = self._folder_of(path)
        return sorted(copy for copy in folder.iterdir() if is_finished(copy)) if folder.is_dir() else []

    def _folder_of(self, path: Path) -> Path:
        return self.copy_folder / path.relative_to(self._data_dir)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Yield a file or folder that does not change: a database is copied with SQLite, and never opened on a mount."""
    if path.suffix != _DATABASE_SUFFIX:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="foundry-study-") as folder:
        target = Path(folder) / path.name
        with contextlib.closing(sqlite3.connect(path)) as live, contextlib.closing(sqlite3.connect(target)) as copy:
            live.backup(copy)
        yield target


def _files_of(source: Path) -> dict[str, Path]:
    return {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}


def _is_same(copy: Path, files: Mapping[str, Path], values: Mapping[str, Any]) -> bool:
    try:
        return (copy / MANIFEST_FILE).read_text(encoding="utf-8") == manifest_text(files, values)
    except OSError:
        return False
