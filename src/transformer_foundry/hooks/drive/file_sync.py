"""Copy everything that is made beside the checkpoints: tokens, tokenizer, study, reports, package.

Each copy is a new folder ``<copy>/<path under data_dir>/<number>-<token>/`` with a manifest written last, so that an
incomplete copy is never used and two machines overwrite nothing of each other. What the catalog keeps outside data_dir
is copied under its path in the project (``_project``) or on the machine (``_machine``).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import re
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import copy_file
from transformer_foundry.core.files.folder_manifest import (
    MANIFEST_FILE,
    damaged_checkpoint,
    is_finished,
    manifest_text,
    verify_folder,
)
from transformer_foundry.core.files.plain_files import read_plain_text, require_contained
from transformer_foundry.core.studies.tuning.storage.study_copies import find_damage
from transformer_foundry.core.system.process import is_running
from transformer_foundry.hooks.drive.verified_copy import copy_files

__all__ = ["FileSync"]

_log = logging.getLogger(__name__)

KEPT_COPIES = 2
"""The newest one may not be uploaded yet."""

_DATABASE_SUFFIX = ".db"

_CONTENT = "content"

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_NAME = re.compile(r"\d{6,}-(?P<host>[0-9a-f]{6})-(?P<process>\d+)-[0-9a-f]{6}")
"""Number, machine and process, so that the unfinished copies of a process that has ended are known as such."""

_NUMBERED = re.compile(r"\d{1,18}-")

_ABANDONED_S = 3600.0
"""An unfinished copy of another machine that is older was given up: at 2 MB/s, 7 GB are copied in that time."""

_in_progress: set[Path] = set()
"""Copies that threads of this process are writing."""


class FileSync:
    """Copies files and folders of a data folder and restores those that are missing.

    Args:
        data_dir: Root of what is copied.
        copy_folder: Root of the copies, in a folder that must be there.
        check: Called before each file that is written; raises an ``OSError`` if the place is not what it was.
    """

    def __init__(self, data_dir: Path, copy_folder: Path, check: Callable[[], None] = lambda: None) -> None:
        self.copy_folder, self.check = copy_folder, check
        self._roots = {Path(os.path.abspath(data_dir)): "", Path.cwd(): "_project", Path(Path.cwd().anchor): "_machine"}
        self._contained: set[Path] = set()
        self._pending: dict[Path, None] = {}
        self._copied: dict[Path, None] = {}

    def note(self, path: Path) -> None:
        """Mark ``path`` for the next update."""
        self._pending[Path(os.path.abspath(path))] = None

    def forget(self) -> None:
        """Compare everything that was copied in this session again at the next update."""
        self._pending |= self._copied

    def update(self) -> None:
        """Copy everything that was marked since the last update.

        Raises:
            OSError: If something cannot be read or written; it stays marked.
            CheckpointError: If a copy differs from what was written.
        """
        for path in list(self._pending):
            if path.exists():
                self._copy(path)
                self._copied[path] = None
            self._pending.pop(path, None)

    def copies_of(self, path: Path) -> Path:
        """Return the folder of the copies of ``path``."""
        path = Path(os.path.abspath(path))
        root = next(root for root in self._roots if path.is_relative_to(root))
        return self.copy_folder / self._roots[root] / path.relative_to(root)

    def has_copy(self, path: Path) -> bool:
        """Return whether there is an intact copy of ``path``."""
        return any(_is_intact(copy, path.name) for copy in self._copies(path))

    def restore(self, path: Path) -> bool:
        """Restore ``path`` if it is missing and has an intact copy; return whether it was restored.

        Raises:
            OSError: If the copy cannot be read.
            DataError: If a link leads out of the folder of the copies.
        """
        if path.exists():
            return False
        for copy in reversed(self._copies(path)):
            try:
                manifest = _verify_copy(copy, path.name)
            except CheckpointError as err:
                _log.warning("%s is skipped: %s", copy, err.problem)
                continue
            self._restore_from(copy, manifest, path)
            return True
        return False

    def _restore_from(self, copy: Path, manifest: Mapping[str, Any], path: Path) -> None:
        # In a folder beside it first: a kill leaves nothing or everything.
        beside = path.with_name(f"{path.name}.restored")
        shutil.rmtree(beside, ignore_errors=True)
        content = manifest.get(_CONTENT, "")
        for name in manifest["files"]:
            copy_file(copy / name, beside / PurePosixPath(name).relative_to(content))
        is_file = manifest["is_file"]
        (beside / path.name if is_file else beside).replace(path)
        shutil.rmtree(beside, ignore_errors=True)

    def _copy(self, path: Path) -> None:
        if path.suffix == _DATABASE_SUFFIX and (damage := find_damage(path)) is not None:
            _log.warning("%s %s: its earlier copies are kept.", path, damage)
            return
        self._remove_unfinished(path)
        with _readable(path) as source:
            files = _files_of(source)
            if source.is_file():
                files = {path.name: source}
            copies = self._copies(path)
            values: dict[str, Any] = {"is_file": source.is_file()}
            if MANIFEST_FILE in files:  # of a package: the copy has a manifest of its own
                values[_CONTENT] = _CONTENT
                files = {f"{_CONTENT}/{name}": path for name, path in files.items()}
            if copies and _is_same(copies[-1], files, values):
                return
            number = 1 + max((int(copy.name.split("-")[0]) for copy in copies), default=0)
            target = self.copies_of(path) / f"{number:06d}-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
            _in_progress.add(target)
            try:
                copy_files(files, target, values, self.check, self.copy_folder.parent)
            except BaseException:  # a part of a copy takes space, and one with a manifest counts as finished
                shutil.rmtree(target, ignore_errors=True)
                raise
            finally:
                _in_progress.discard(target)
        for copy in [*copies, target][:-KEPT_COPIES]:
            shutil.rmtree(copy)

    def _remove_unfinished(self, path: Path) -> None:
        """Remove what is left of copies of ``path`` that failed: a full disk may refuse even that for a while."""
        folder = self._folder(path)
        for copy in folder.iterdir() if folder.is_dir() else ():
            if not is_finished(copy) and _is_abandoned(copy):
                shutil.rmtree(copy, ignore_errors=True)

    def _copies(self, path: Path) -> list[Path]:
        folder = self._folder(path)
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(copy for copy in found if _NUMBERED.match(copy.name) and is_finished(copy))

    def _folder(self, path: Path) -> Path:
        """Return the folder of the copies of ``path``, after a look through it: it may come from someone else.

        Raises:
            DataError: If a link leads out of it.
        """
        folder = self.copies_of(path)
        if folder not in self._contained:
            require_contained(folder, self.copy_folder.parent)
            self._contained.add(folder)
        return folder


def _is_abandoned(copy: Path) -> bool:
    """Return whether no process writes an unfinished copy any more."""
    writer = _NAME.fullmatch(copy.name)
    if writer is not None and writer["host"] == _HOST:
        process = int(writer["process"])
        return copy not in _in_progress if process == os.getpid() else not is_running(process)
    try:
        return time.time() - copy.stat().st_mtime > _ABANDONED_S
    except OSError:
        return False


def _is_intact(copy: Path, name: str) -> bool:
    try:
        _verify_copy(copy, name)
    except CheckpointError:
        return False
    return True


def _verify_copy(copy: Path, name: str) -> dict[str, Any]:
    """Return the manifest of a copy of a file or folder called ``name``, after a look at every file.

    Raises:
        CheckpointError: If a file is missing or damaged, or the manifest is not that of such a copy.
    """
    manifest = verify_folder(copy)
    is_file, content, files = manifest.get("is_file"), manifest.get(_CONTENT, ""), list(manifest["files"])
    inside = f"{content}/" if content else ""
    is_copy = files == [f"{inside}{name}"] if is_file else all(file.startswith(inside) for file in files)
    if not (isinstance(is_file, bool) and content in ("", _CONTENT) and is_copy):
        raise damaged_checkpoint(copy, f"{MANIFEST_FILE} is not that of a copy of {name}")
    return manifest


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
        return read_plain_text(copy / MANIFEST_FILE) == manifest_text(files, values)
    except OSError:
        return False
