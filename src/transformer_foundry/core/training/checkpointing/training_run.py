"""A training run as it is loaded: its records, and its states when they are asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = ["TrainingRun"]

_log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """What is known about a run; weights are read when they are asked for.

    Attributes:
        folder: Folder of the run.
        history: Rows of ``metrics.jsonl``: ``step`` and metrics by name.
        samples: Rows of ``samples.jsonl``: ``step`` and a list of texts.
        manifest: How the run came about; empty for a run that has not begun.
        checkpoints: Folders of the finished generations, oldest first.
        fork_from: Folder of the run or of the checkpoint that this run begins with; None if it begins with nothing.
        notes: What was noticed when the best checkpoint was read.
    """

    folder: Path
    history: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    manifest: dict[str, Any]
    checkpoints: list[Path]
    fork_from: Path | None = None
    notes: list[str] = field(default_factory=list)

    def latest(self) -> TrainingState | None:
        """Return the newest state that is intact, or None if nothing was saved yet and nothing is forked.

        What was skipped on the way is in its ``notes``, which training shows.

        Raises:
            CheckpointError: If all are damaged or the newest is of a later format.
        """
        from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint
        from transformer_foundry.core.training.checkpointing.compatibility import read_fork
        from transformer_foundry.core.training.checkpointing.directory import newest_checkpoint

        notes: list[str] = []
        folder = newest_checkpoint(self.folder, notes)
        if folder is not None:
            return read_checkpoint(folder, notes)
        return None if self.fork_from is None else read_fork(self.fork_from)

    def best(self) -> TrainingState | None:
        """Return the state with the lowest validation loss (the newest without evaluation), or None.

        What was skipped on the way is logged, once.

        Raises:
            CheckpointError: If all are damaged or the newest is of a later format.
        """
        from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint
        from transformer_foundry.core.training.checkpointing.directory import best_checkpoint

        notes: list[str] = []
        folder = best_checkpoint(self.folder, notes)
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
                _log.warning("%s: %s", self.folder, note)
        return None if folder is None else read_checkpoint(folder, notes)
