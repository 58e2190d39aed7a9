"""The copy of a search's paused trials, so that a new machine goes on with them and trains none of them again."""

from __future__ import annotations

from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, is_finished
from transformer_foundry.core.training.checkpointing.directory import copy_checkpoint, is_intact, list_checkpoints
from transformer_foundry.core.training.checkpointing.retention import delete_checkpoint

__all__ = ["PAUSED_FOLDER", "POLL_S", "TrialSync"]

PAUSED_FOLDER = "paused"
"""Beside the file of the study: a folder for each paused trial, with one checkpoint."""

POLL_S = 2.0
"""Between two looks at the folder: a search tells of trials that have ended, not of those it pauses."""


class TrialSync:
    """Keeps the checkpoint of each paused trial in another folder for as long as it is paused.

    They are as many as the search keeps itself, within ``tuning.paused_gib``.

    Args:
        folder: Where the search keeps them, in folders ``trial-NUMBER``.
        copy_folder: Where the copies are.
    """

    def __init__(self, folder: Path, copy_folder: Path) -> None:
        self._folder, self._copy_folder = folder, copy_folder
        self._copied: set[Path] = set()
        self._was_changed = False

    def restore(self) -> int:
        """Bring back the checkpoints that are missing; return how many.

        Raises:
            OSError: If a copy cannot be read.
        """
        count = 0
        for name in _checkpoints_in(self._copy_folder):
            if not is_finished(self._folder / name) and is_intact(self._copy_folder / name):
                copy_checkpoint(self._copy_folder / name, self._folder / name)
                self._copied.add(name)
                count += 1
        return count

    def update(self) -> bool:
        """Copy what has been paused since the last time, and delete copies of what no longer is.

        Returns:
            Whether the study should be copied too, which says what is paused. It does so only after the checkpoint is
            there: this is true once more after a change.

        Raises:
            OSError: If a file cannot be read or written.
            CheckpointError: If a copy is not what was written.
        """
        found = set(_checkpoints_in(self._folder))
        is_changed = found != self._copied
        for name in sorted(found - self._copied):
            self._copy(name)
            self._copied.add(name)
        # Only what this session has seen: a folder that is empty because nothing could be restored deletes nothing.
        for name in sorted(self._copied - found):
            delete_checkpoint(self._copy_folder / name)
            self._copied.discard(name)
        is_due, self._was_changed = is_changed or self._was_changed, is_changed
        return is_due

    def _copy(self, name: Path) -> None:
        """Copy a checkpoint, unless it is copied, damaged, or its trial has gone on meanwhile."""
        source, target = self._folder / name, self._copy_folder / name
        if not is_intact(source) or (_manifest(source) == _manifest(target) and is_intact(target)):
            return
        try:
            copy_checkpoint(source, target)
        except (OSError, CheckpointError):
            if is_finished(source):
                raise
            delete_checkpoint(target)


def _checkpoints_in(folder: Path) -> list[Path]:
    """The finished checkpoints of all trials, by their paths in ``folder``."""
    trials = sorted(folder.glob("trial-*"))
    return [checkpoint.relative_to(folder) for trial in trials for checkpoint in list_checkpoints(trial)]


def _manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        return b""
