"""Copy the paused trials of a search, so that a new machine resumes them instead of training them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, is_finished
from transformer_foundry.core.training.checkpointing.directory import copy_checkpoint, is_intact, list_checkpoints
from transformer_foundry.core.training.checkpointing.retention import delete_checkpoint

__all__ = ["PAUSED_FOLDER", "POLL_S", "TrialSync"]

PAUSED_FOLDER = "paused"
"""Beside the file of the study: one folder with one checkpoint for each paused trial."""

POLL_S = 2.0
"""Between two looks at the folder: a search yields trials that have ended, not those that it pauses."""


class TrialSync:
    """Keeps the checkpoint of each paused trial in another folder while it is paused.

    The copies take as much space as the originals, which ``tuning.paused_gib`` limits.

    Args:
        folder: Where the search keeps the checkpoints, in folders ``trial-NUMBER``.
        copy_folder: Where the copies are.
        check: Called before each file that is written; raises an ``OSError`` if the place is not what it was.
    """

    def __init__(self, folder: Path, copy_folder: Path, check: Callable[[], None] = lambda: None) -> None:
        self._folder, self._copy_folder, self._check = folder, copy_folder, check
        self._copied: set[Path] = set()
        self._was_changed = False

    def restore(self) -> int:
        """Restore the checkpoints that are missing, and return how many.

        Raises:
            OSError: If a copy cannot be read.
            DataError: If a link leads out of the folder of the copies.
        """
        count = 0
        self._check()
        for name in _checkpoints_in(self._copy_folder):
            if not is_finished(self._folder / name) and is_intact(self._copy_folder / name):
                copy_checkpoint(self._copy_folder / name, self._folder / name)
                self._copied.add(name)
                count += 1
        return count

    def update(self) -> bool:
        """Copy trials that were paused since the last update, and delete copies of those that no longer are.

        Returns:
            Whether the study, which lists the paused trials, should be copied too. It lists a trial only after its
            checkpoint is written: the result is True once more after a change.

        Raises:
            OSError: If a file cannot be read or written.
            CheckpointError: If a copy differs from what was written.
        """
        found = set(_checkpoints_in(self._folder))
        is_changed = found != self._copied
        for name in sorted(found - self._copied):
            self._copy(name)
            self._copied.add(name)
        # Only those that this session has seen: if nothing could be restored, an empty folder deletes no copy.
        for name in sorted(self._copied - found):
            delete_checkpoint(self._copy_folder / name)
            self._copied.discard(name)
        is_due, self._was_changed = is_changed or self._was_changed, is_changed
        return is_due

    def _copy(self, name: Path) -> None:
        """Copy a checkpoint, unless it is copied or damaged, or its trial has resumed meanwhile."""
        source, target = self._folder / name, self._copy_folder / name
        if not is_intact(source) or (_manifest(source) == _manifest(target) and is_intact(target)):
            return
        try:
            copy_checkpoint(source, target, self._check)
        except (OSError, CheckpointError):
            if is_finished(source):
                raise
            delete_checkpoint(target)


def _checkpoints_in(folder: Path) -> list[Path]:
    """Return the finished checkpoints of all trials, as paths relative to ``folder``."""
    trials = sorted(folder.glob("trial-*"))
    return [checkpoint.relative_to(folder) for trial in trials for checkpoint in list_checkpoints(trial)]


def _manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        return b""
