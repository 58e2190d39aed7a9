"""Keep the checkpoints of paused trials: in memory, or as folders of limited size on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformer_foundry.core.base.errors import CheckpointError

__all__ = ["FolderCheckpoints", "PausedCheckpoints"]

_log = logging.getLogger(__name__)

StateT = TypeVar("StateT")


class PausedCheckpoints:
    """Keeps what a paused trial needs to resume, by the number of the trial.

    These end with the process, so that trials paused by another process start over; see :class:`FolderCheckpoints`.
    """

    def __init__(self) -> None:
        self._states: dict[int, Any] = {}

    def keep(self, number: int, state: Any) -> bool:
        """Keep a state; return False if that failed and the trial would start over."""
        self._states[number] = state
        return True

    def has(self, number: int) -> bool:
        """Return whether a state is kept."""
        return number in self._states

    def get(self, number: int) -> Any | None:
        """Return the state; None if there is none or it is damaged: the trial starts over."""
        return self._states.get(number)

    def drop(self, number: int) -> None:
        """Delete the state, if there is one."""
        self._states.pop(number, None)

    def trim(self, best_first: Sequence[int]) -> None:
        """Delete states, the last of ``best_first`` first, until the rest fit."""


class FolderCheckpoints(PausedCheckpoints, Generic[StateT]):
    """Keeps states as folders ``trial-NUMBER``, which survive the process.

    Args:
        folder: Where they are; created with the first.
        limit_bytes: Their total size; the states of the worst trials are deleted first.
        write: Writes a state into a folder; raises ``CheckpointError`` if it cannot.
        read: Reads it back; raises ``CheckpointError`` if it is damaged.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: float,
        write: Callable[[Path, StateT], object],
        read: Callable[[Path], StateT],
    ) -> None:
        super().__init__()
        self._folder, self._limit, self._write, self._read = folder, limit_bytes, write, read

    def keep(self, number: int, state: StateT) -> bool:
        """Write a state; on a full disk the trial loses its state and the search continues."""
        try:
            self._write(self._path(number), state)
        except CheckpointError as err:
            _log.warning("Trial %d is paused without a checkpoint: %s", number, err.problem)
            self.drop(number)
            return False
        return True

    def has(self, number: int) -> bool:
        """Return whether there is a folder for the trial."""
        return self._path(number).is_dir()

    def get(self, number: int) -> StateT | None:
        """Read the state; None if there is none or it is damaged: the trial starts over."""
        if not self.has(number):
            return None
        try:
            return self._read(self._path(number))
        except CheckpointError as err:
            _log.warning("Trial %d starts over: %s", number, err.problem)
            self.drop(number)
            return None

    def drop(self, number: int) -> None:
        """Delete the folder of the trial, if there is one."""
        shutil.rmtree(self._path(number), ignore_errors=True)

    def trim(self, best_first: Sequence[int]) -> None:
        """Delete states of the last trials of ``best_first`` until the rest fit."""
        sizes = {number: self._size(number) for number in best_first if self.has(number)}
        for number in reversed(best_first):
            if sum(sizes.values()) <= self._limit:
                return
            if sizes.pop(number, None) is not None:
                self.drop(number)

    def _path(self, number: int) -> Path:
        return self._folder / f"trial-{number}"

    def _size(self, number: int) -> int:
        try:
            return sum(path.stat().st_size for path in self._path(number).rglob("*") if path.is_file())
        except OSError:  # another worker is deleting it
            return 0
