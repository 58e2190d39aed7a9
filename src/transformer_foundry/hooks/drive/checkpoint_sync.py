"""Copy the checkpoints of a run, delete old copies, and restore the run from them."""

from __future__ import annotations

import filecmp
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import check_writable, copy_file, make_folder
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, is_finished, read_manifest
from transformer_foundry.core.files.run_paths import (
    CHECKPOINTS_FOLDER,
    LOG_FILES,
    REQUEST_FILE,
    RUN_MANIFEST_FILE,
    TRACKING_FILE,
)
from transformer_foundry.core.training.checkpointing.directory import (
    best_checkpoint,
    checkpoint_folders,
    copy_checkpoint,
    highest_fence,
    is_intact,
    list_checkpoints,
    newest_checkpoint,
    step_of,
    verify_checkpoint,
)
from transformer_foundry.core.training.checkpointing.retention import delete_checkpoint, quarantine_after
from transformer_foundry.hooks.drive.verified_copy import problem_of

__all__ = ["CheckpointSync"]

_log = logging.getLogger(__name__)

KEPT_COPIES = 2
"""Newest copies that always stay."""

UPLOAD_TIMES = 3
"""A copy stays until a newer one has had three times the expected time of its upload: Drive acknowledges a write
long before the file has left the machine."""

RUN_FILES = (RUN_MANIFEST_FILE, REQUEST_FILE, TRACKING_FILE)
"""Copied with every update. The log files grow, and every version of them would stay in Drive's trash: they are copied
at the end, and each checkpoint has its own."""


class CheckpointSync:
    """Keeps the newest and the best checkpoint of a run in another folder of the same layout.

    Args:
        run_folder: Folder of the run.
        copy_folder: Folder of the copy; made when there is something to copy, in a folder that must be there.
        upload_bytes_per_s: How fast files leave the machine. A checkpoint is copied when the one before should have
            left it: more would only queue up, the newest last.
        check: Called before each file that is written; raises an ``OSError`` if the place is not what it was.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        run_folder: Path,
        copy_folder: Path,
        *,
        upload_bytes_per_s: float = 2e6,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_folder, self._copy_folder = run_folder, copy_folder
        self._rate, self._check_place, self._clock = upload_bytes_per_s, check, clock
        self._copied_at: dict[str, float] = {}
        self._verified: dict[str, bytes] = {}
        self._reported_damage: set[str] = set()
        self._busy_until = -1.0

    @property
    def verified_step(self) -> int | None:
        """Newest step whose copy was read back in this session."""
        return max((step_of(Path(name)) for name in self._verified), default=None)

    @property
    def highest_fence(self) -> int:
        """Highest fence among the copies."""
        return highest_fence(self._copy_folder)

    def check(self) -> None:
        """Check that the copy can be written.

        Raises:
            OSError: If it cannot.
        """
        self._check_place()
        check_writable(self._copy_folder, self._copy_folder.parent)

    def restore(self) -> str | None:
        """Restore the newest checkpoint of the copy if the run's folder has none as new, and the best one with it.

        Returns:
            A sentence about what was restored, or None.

        Raises:
            OSError: If the copy cannot be read or written.
            CheckpointError: If the run's folder has no intact checkpoint, and the copy has only damaged ones.
        """
        local_step = self.newest_local_step()
        try:
            return self._restore_newer_than(local_step)
        except CheckpointError as err:
            if local_step is None:
                raise
            _log.warning("The copy in %s cannot be used: %s", self._copy_folder, err.problem)
            return None

    def newest_local_step(self) -> int | None:
        """Return the step of the newest intact checkpoint of the run's folder."""
        try:
            newest = newest_checkpoint(self._run_folder)
        except CheckpointError:
            return None
        return None if newest is None else step_of(newest)

    def update(self, is_last: bool) -> float | None:
        """Copy the newest checkpoint and the best one, and delete copies that are no longer needed.

        Args:
            is_last: Whether the session ends: then no copy waits for the upload of the one before.

        Returns:
            Seconds until there may be more to do; None if that takes a new checkpoint.

        Raises:
            OSError: If a file cannot be read or written.
            CheckpointError: If a copy differs from what was written.
        """
        try:
            return self._update(is_last)
        except Exception:  # an outage may lose what was acknowledged before it
            self.forget()
            raise

    def forget(self) -> None:
        """Verify every copy again at the next update."""
        self._verified.clear()

    def _update(self, is_last: bool) -> float | None:
        self._check_place()
        make_folder(self._copy_folder / CHECKPOINTS_FOLDER, self._copy_folder.parent)
        damaged: set[str] = set()
        while (folder := self._next_to_copy(damaged)) is not None:
            wait_s = self._busy_until - self._clock()
            if wait_s > 0 and not is_last:
                return wait_s
            if not self._copy(folder):
                damaged.add(folder.name)
        for name in (*RUN_FILES, *(LOG_FILES if is_last else ())):
            source, target = self._run_folder / name, self._copy_folder / name
            # Equal files are not written again: a kill during the write would leave an incomplete file.
            if source.is_file() and not (target.is_file() and filecmp.cmp(source, target, shallow=False)):
                self._check_place()
                copy_file(source, target, self._copy_folder.parent)
        self._check_place()
        self._prune()
        return None

    def _next_to_copy(self, damaged: set[str]) -> Path | None:
        """Return the newest checkpoint, then the best one, unless their copies are verified."""
        local = [folder for folder in list_checkpoints(self._run_folder) if folder.name not in damaged]
        wanted = local[-1:] + [folder for folder in local[:-1] if step_of(folder) == _best_step(local[-1])]
        for folder in wanted:
            manifest = _manifest_bytes(folder)
            if manifest and self._verified.get(folder.name) != manifest:
                return folder
        return None

    def _copy(self, folder: Path) -> bool:
        """Copy a checkpoint of the run unless its copy is intact; return False if the checkpoint is damaged."""
        target = self._copy_folder / CHECKPOINTS_FOLDER / folder.name
        manifest = _manifest_bytes(folder)
        try:
            if not manifest or _manifest_bytes(target) != manifest or not is_intact(target):
                verify_checkpoint(folder)
                copy_checkpoint(folder, target, self._check_place, self._copy_folder.parent)
                self._busy_until = self._clock() + self._upload_s(folder)
            self._verified[folder.name] = manifest
            self._copied_at.setdefault(folder.name, self._clock())
        except (OSError, CheckpointError):
            damage = _damage_of(folder)
            if not (folder / MANIFEST_FILE).is_file():
                # The run's folder keeps few checkpoints: an old one may be deleted while it is being copied.
                if not _manifest_bytes(target):
                    shutil.rmtree(target, ignore_errors=True)
            elif damage is None:
                raise
            else:
                self._report_damage(folder, damage)
                return False
        return True

    def _report_damage(self, folder: Path, damage: str) -> None:
        if folder.name not in self._reported_damage:
            _log.warning("%s is not copied: %s", folder, damage)
        self._reported_damage.add(folder.name)

    def _prune(self) -> None:
        """Delete unfinished copies, and those older than one that should be uploaded by now.

        The best one and the newest two stay.
        """
        for folder in checkpoint_folders(self._copy_folder):
            if not is_finished(folder):
                delete_checkpoint(folder)
        copies = list_checkpoints(self._copy_folder)
        safe = [index for index, copy in enumerate(copies) if self._is_uploaded(copy)]
        if not safe:
            return
        newest = [index for index, copy in enumerate(copies) if copy.name in self._verified][-1]
        best_step = _best_step(copies[newest])
        for copy in copies[: min(safe[-1], newest - KEPT_COPIES + 1)]:
            if step_of(copy) != best_step:
                delete_checkpoint(copy)
                self._verified.pop(copy.name, None)

    def _is_uploaded(self, copy: Path) -> bool:
        if copy.name not in self._verified:
            return False
        return self._clock() - self._copied_at[copy.name] >= UPLOAD_TIMES * self._upload_s(copy)

    def _upload_s(self, folder: Path) -> float:
        return sum(path.stat().st_size for path in folder.iterdir()) / self._rate

    def _restore_newer_than(self, local_step: int | None) -> str | None:
        notes: list[str] = []
        began = time.monotonic()
        try:
            newest = newest_checkpoint(self._copy_folder, notes)
        except CheckpointError:
            # Small files are uploaded before large ones: a manifest whose files never arrived is no damage.
            if not all(map(_is_incomplete, list_checkpoints(self._copy_folder))):
                raise
            _log.warning("%s: the upload of its only checkpoint was never completed.", self._copy_folder)
            return None
        for note in notes:
            _log.warning("%s: %s", self._copy_folder, note)
        if newest is None or (local_step is not None and step_of(newest) <= local_step):
            return None
        best = best_checkpoint(self._copy_folder)
        quarantine_after(self._run_folder, -1 if local_step is None else local_step)
        for name in (*RUN_FILES, *LOG_FILES):
            if (self._copy_folder / name).is_file():
                copy_file(self._copy_folder / name, self._run_folder / name)
        # The newest last: until it is in place, a run that is killed now is restored again.
        for folder in dict.fromkeys(path for path in (best, newest) if path is not None):
            target = self._run_folder / CHECKPOINTS_FOLDER / folder.name
            if not is_intact(target):
                copy_checkpoint(folder, target)
        found = "no checkpoint" if local_step is None else f"step {local_step}"
        seconds = time.monotonic() - began
        return (
            f"Restored step {step_of(newest)} from {self._copy_folder} ({seconds:.1f} s): "
            f"{self._run_folder} had {found}."
        )


def _best_step(folder: Path) -> int | None:
    try:
        best_step: int | None = read_manifest(folder)["best_step"]
    except CheckpointError:
        return None
    return best_step


def _damage_of(folder: Path) -> str | None:
    try:
        verify_checkpoint(folder)
    except (OSError, CheckpointError) as err:
        return problem_of(err)
    return None


def _is_incomplete(folder: Path) -> bool:
    """Return whether files of a copy are missing."""
    try:
        names = read_manifest(folder)["files"]
    except CheckpointError:
        return False
    return not all(os.path.lexists(folder / name) for name in names)


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        return b""
