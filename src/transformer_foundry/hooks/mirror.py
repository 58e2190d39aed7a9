"""A copy of a run's checkpoints in another folder, such as one on Google Drive, made while training goes on.

Drive acknowledges a write before it is durable, fails for minutes and comes back, has no hard links, and may lose a
rename. So files are copied one by one with the manifest last, read back, and old copies are deleted only when newer
ones have been verified. What has to be copied is what lies in the run's folder and not in the copy: after an outage
nothing needs to be remembered.
"""

from __future__ import annotations

import atexit
import errno
import filecmp
import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path

from transformer_foundry.core.errors import CheckpointError
from transformer_foundry.core.training.checkpoints import (
    best_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    set_aside_after,
    verify_checkpoint,
)
from transformer_foundry.core.training.durable import make_folder, sync

__all__ = ["Mirror"]

_log = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 600.0
"""Longest wait at the end of a run: a checkpoint of 100M parameters (1.2 GB) at 2 MB/s."""

KEPT_COPIES = 2
"""Newest copies that stay whatever the run's folder keeps: the last one may not have left the machine yet."""

COLAB_MOUNT = Path("/content/drive")
MANIFEST_FILE = "manifest.json"
RUN_FILES = (MANIFEST_FILE, "metrics.jsonl", "samples.jsonl", "tracking.json")
"""Files beside the checkpoints, copied as they are at the moment; each checkpoint has its own rows of metrics."""

BEST_PARAMETERS = "tuning/best_parameters.json"
"""What a search has found, where it is kept in the run's folder: training needs it again to go on."""


class Mirror:
    """Copies the checkpoints of ``run_folder`` to ``copy_folder`` in one background thread, and brings them back.

    A copy that fails while training goes on never raises: it is logged once for each outage and tried again with the
    next checkpoint.

    Args:
        run_folder: Folder of the run.
        copy_folder: Folder of the run's copy, of the same form; made when the first checkpoint is copied.
    """

    def __init__(self, run_folder: Path, copy_folder: Path) -> None:
        self._run_folder, self._copy_folder = run_folder, copy_folder
        self._changed = threading.Condition()
        self._requested = 0
        self._attempted = 0
        self._thread: threading.Thread | None = None
        self._is_out = False
        self._verified: dict[str, bytes] = {}
        self._told: set[str] = set()

    def restore(self) -> str | None:
        """Bring the newest checkpoint of the copy back if the run's folder has none as new; the best one with it.

        Returns:
            A sentence about what was restored, or None.

        Raises:
            CheckpointError: If the run's folder has no intact checkpoint, and the copy cannot be read or written or has
                only damaged ones.
        """
        local_step = _newest_step(self._run_folder)
        for attempt in ("first", "second"):
            try:
                _check_mounted(self._copy_folder)
                _check_writable(self._copy_folder)
                return self._restore_newer_than(local_step)
            except OSError as err:
                # One failed call is common on Drive and means nothing; a checkpoint that is not found loses hours.
                if attempt == "first":
                    continue
                if local_step is None:
                    raise self._unreachable(err) from err
                self._report(err)
            except CheckpointError as err:
                if local_step is None:
                    raise
                _log.warning("The copy in %s cannot be used: %s", self._copy_folder, err.problem)
                return None
        return None

    def request(self) -> None:
        """Ask for the copy to be brought up to date; returns at once."""
        with self._changed:
            self._requested += 1
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoint-copy", daemon=True)
            self._thread.start()
            # A Stop in a terminal ends the process without any hook being called.
            atexit.register(self.finish)

    def finish(self, timeout_s: float = FINISH_TIMEOUT_S) -> bool:
        """Bring the copy up to date a last time, wait for it, and say so.

        Args:
            timeout_s: Longest wait, in seconds.

        Returns:
            Whether the copy is complete.
        """
        if self._thread is None:
            return True
        atexit.unregister(self.finish)
        self.request()
        if not self._wait(1.0):
            _log.info(
                "Waiting for the copy of the last checkpoint to %s (at most %.0f s) ...", self._copy_folder, timeout_s
            )
        is_complete = self._wait(timeout_s) and not self._is_out
        if is_complete and self._verified:
            newest = max(_step(Path(name)) for name in self._verified)
            _log.info("Checkpoints are copied to %s and verified up to step %d.", self._copy_folder, newest)
        elif not is_complete:
            _log.warning("The last checkpoints are only in %s: not copied to %s.", self._run_folder, self._copy_folder)
        return is_complete

    def _wait(self, timeout_s: float) -> bool:
        with self._changed:
            wanted = self._requested
            return self._changed.wait_for(lambda: self._attempted >= wanted, timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._attempted < self._requested)
                seen = self._requested
            try:
                self._update()
                if self._is_out:
                    _log.info("%s can be written again: the copy is up to date.", self._copy_folder)
                self._is_out = False
            except Exception as err:  # a thread that ends would leave the end of the run waiting for it
                self._report(err)
                # What was acknowledged before an outage may be lost in it.
                self._verified.clear()
            with self._changed:
                self._attempted = seen
                self._changed.notify_all()

    def _update(self) -> None:
        """Make the copy hold what the run's folder holds, the newest first."""
        _check_mounted(self._copy_folder)
        make_folder(self._copy_folder / "checkpoints")
        damaged: set[str] = set()
        while (folder := self._next_to_copy(damaged)) is not None:
            if not self._copy(folder):
                damaged.add(folder.name)
        for name in (*RUN_FILES, BEST_PARAMETERS):
            source, target = self._run_folder / name, self._copy_folder / name
            # What is the same is not written again: a kill in the middle of that would leave it torn.
            if source.is_file() and not (target.is_file() and filecmp.cmp(source, target, shallow=False)):
                _copy_file(source, target)
        self._prune()

    def _next_to_copy(self, damaged: set[str]) -> Path | None:
        for folder in reversed(list_checkpoints(self._run_folder)):
            manifest = _manifest_bytes(folder)
            if manifest and self._verified.get(folder.name) != manifest and folder.name not in damaged:
                return folder
        return None

    def _copy(self, folder: Path) -> bool:
        """Copy a checkpoint of the run unless its copy is whole; False if it is damaged itself."""
        target = self._copy_folder / "checkpoints" / folder.name
        manifest = _manifest_bytes(folder)
        try:
            if not manifest or _manifest_bytes(target) != manifest or not _is_intact(target):
                verify_checkpoint(folder)
                copy_checkpoint(folder, target)
            self._verified[folder.name] = manifest
        except (OSError, CheckpointError):
            damage = _damage_of(folder)
            if not (folder / MANIFEST_FILE).is_file():
                # The run's folder keeps few checkpoints: an old one may be deleted while it is being copied.
                if not _manifest_bytes(target):
                    shutil.rmtree(target, ignore_errors=True)
            elif damage is None:
                raise
            else:
                self._tell_damage(folder, damage)
                return False
        return True

    def _tell_damage(self, folder: Path, damage: str) -> None:
        if folder.name not in self._told:
            _log.warning("%s is not copied: %s", folder, damage)
        self._told.add(folder.name)

    def _prune(self) -> None:
        """Delete copies that the run's folder no longer keeps, but not the newest ones, nor what is newer still."""
        kept = {folder.name for folder in list_checkpoints(self._run_folder)}
        copies = list_checkpoints(self._copy_folder)
        verified = [folder for folder in copies if folder.name in self._verified]
        if not verified:
            return
        for folder in copies[: copies.index(verified[-1])][: -(KEPT_COPIES - 1)]:
            if folder.name not in kept:
                (folder / MANIFEST_FILE).unlink(missing_ok=True)
                shutil.rmtree(folder)
                self._verified.pop(folder.name, None)

    def _restore_newer_than(self, local_step: int | None) -> str | None:
        # A search that was made again since is not undone.
        if (self._copy_folder / BEST_PARAMETERS).is_file() and not (self._run_folder / BEST_PARAMETERS).exists():
            _copy_file(self._copy_folder / BEST_PARAMETERS, self._run_folder / BEST_PARAMETERS)
        notes: list[str] = []
        began = time.monotonic()
        newest = newest_checkpoint(self._copy_folder, notes)
        for note in notes:
            _log.warning("%s: %s", self._copy_folder, note)
        if newest is None or (local_step is not None and _step(newest) <= local_step):
            return None
        best = best_checkpoint(self._copy_folder)
        set_aside_after(self._run_folder, -1 if local_step is None else local_step)
        for name in RUN_FILES:
            if (self._copy_folder / name).is_file():
                _copy_file(self._copy_folder / name, self._run_folder / name)
        # The newest last: until it is there, a run that is killed now is restored again.
        for folder in dict.fromkeys(path for path in (best, newest) if path is not None):
            target = self._run_folder / "checkpoints" / folder.name
            if not _is_intact(target):
                copy_checkpoint(folder, target)
            self._verified[folder.name] = _manifest_bytes(folder)
        found = "no checkpoint" if local_step is None else f"step {local_step}"
        seconds = time.monotonic() - began
        return (
            f"Restored step {_step(newest)} from {self._copy_folder} ({seconds:.1f} s): {self._run_folder} had {found}."
        )

    def _unreachable(self, err: OSError) -> CheckpointError:
        return CheckpointError(
            f"{self._copy_folder} cannot be read and written: {_problem(err)}. {self._run_folder} has no checkpoint.",
            "Earlier checkpoints may be in that copy: training that starts without them does their work again.",
            "Mount Drive (in Colab: from google.colab import drive; drive.mount('/content/drive')) or mend the folder, "
            "and run again; or start without it: drive.folder=null.",
        )

    def _report(self, err: Exception) -> None:
        if not self._is_out:
            _log.warning(
                "Checkpoints cannot be copied to or from %s now: %s. Training goes on; the next one tries again.",
                self._copy_folder,
                _problem(err),
            )
        self._is_out = True


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a generation, its manifest last, and read the copy back.

    Raises:
        OSError: If a file cannot be read or written.
        CheckpointError: If the copy is not what the manifest says.
    """
    # Without a manifest the target counts as unfinished while its files are being replaced.
    (target / MANIFEST_FILE).unlink(missing_ok=True)
    make_folder(target)
    for name in json.loads((source / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]:
        _copy_file(source / name, target / name)
    sync(target)
    _copy_file(source / MANIFEST_FILE, target / MANIFEST_FILE)
    sync(target)
    verify_checkpoint(target)


def _copy_file(source: Path, target: Path) -> None:
    make_folder(target.parent)
    shutil.copyfile(source, target)
    sync(target)


def _check_mounted(folder: Path) -> None:
    # Where Drive is not mounted, its folder would be made on the machine's own disk, and vanish with it.
    if COLAB_MOUNT in folder.parents and not os.path.ismount(COLAB_MOUNT):
        raise OSError(errno.ENOTCONN, f"Google Drive is not mounted at {COLAB_MOUNT}")


def _check_writable(folder: Path) -> None:
    make_folder(folder)
    probe = folder / f".write-test-{os.getpid()}"
    probe.write_bytes(b"x")
    probe.unlink()


def _problem(err: Exception) -> str:
    if isinstance(err, CheckpointError):
        return err.problem
    if isinstance(err, OSError):
        return err.strerror or str(err)
    return f"{type(err).__name__}: {err}"


def _newest_step(run_folder: Path) -> int | None:
    try:
        newest = newest_checkpoint(run_folder)
    except CheckpointError:
        return None
    return None if newest is None else _step(newest)


def _is_intact(folder: Path) -> bool:
    try:
        verify_checkpoint(folder)
    except CheckpointError:
        return False
    return True


def _damage_of(folder: Path) -> str | None:
    try:
        verify_checkpoint(folder)
    except (OSError, CheckpointError) as err:
        return _problem(err)
    return None


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
