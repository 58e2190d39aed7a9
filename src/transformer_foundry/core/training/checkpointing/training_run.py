"""A training run on disk: its metrics and manifest, and its checkpoints, which are read on demand."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import CheckpointError

if TYPE_CHECKING:
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = ["TrainingRun"]

_log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """A run; its weights are read on demand.

    Attributes:
        folder: Folder of the run.
        history: Rows of ``metrics.jsonl``: ``step`` and metrics by name.
        samples: Rows of ``samples.jsonl``: ``step`` and a list of texts.
        manifest: Versions, parameters and sessions of the run; empty for a run that has not started.
        checkpoints: Folders of the complete checkpoints, oldest first.
        fork_from: Folder of the run or checkpoint that this run starts from; None if it starts at step 0.
        notes: Warnings from reading the best checkpoint, each logged once.
    """

    folder: Path
    history: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    manifest: dict[str, Any]
    checkpoints: list[Path]
    fork_from: Path | None = None
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        steps = [row["step"] for row in self.history if "step" in row]
        losses = [row["eval/loss"] for row in self.history if "eval/loss" in row]
        best = f", best eval/loss {min(losses):.4g}" if losses else ""
        planned = f" of {self.manifest['total_steps']}" if "total_steps" in self.manifest else ""
        count = len(self.checkpoints)
        return (
            f"TrainingRun({str(self.folder)!r}, step {steps[-1] if steps else 0}{planned}{best}, "
            f"{count} checkpoint{'' if count == 1 else 's'})"
        )

    def latest(self) -> TrainingState | None:
        """Return the newest intact state, or None if nothing is saved yet and the run is no fork.

        Its ``notes``, which training shows, name the checkpoints that were skipped.

        Raises:
            CheckpointError: If all are damaged or the newest has a newer format.
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
        """Return the state with the lowest validation loss (the newest without evaluation), or None if none is saved.

        Checkpoints that were skipped are logged, once.

        Raises:
            CheckpointError: If all are damaged or the newest has a newer format.
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

    def require_best(self) -> TrainingState:
        """Return ``best``.

        Raises:
            CheckpointError: If nothing is saved yet, or as for ``best``.
        """
        state = self.best()
        if state is None:
            raise CheckpointError(
                f"The run {self.folder.name} has no checkpoint.",
                "Expected a trained model.",
                "Train it: kedro run --pipelines training, or run the training cell of the notebook.",
            )
        return state

    @property
    def step(self) -> int | None:
        """Step of the newest checkpoint; None if nothing is saved yet."""
        from transformer_foundry.core.training.checkpointing.directory import step_of

        return step_of(self.checkpoints[-1]) if self.checkpoints else None

    def is_finished(self, total_steps: int) -> bool:
        """Return whether a session has ended at the newest checkpoint, and the run is not to become longer.

        Args:
            total_steps: Optimizer updates of the whole run as planned now.
        """
        if self.step is None:
            return False
        ended = self.manifest.get("result", {}).get("step") == self.step
        return self.step >= total_steps or (ended and self.manifest.get("total_steps") == total_steps)

    def best_origin(self) -> dict[str, str | int]:
        """Return what ``best`` is made from, read from manifests alone: fast, and also for weights that are damaged.

        Returns:
            Digests of model, data, tokenizer and weights, and the step; empty if no checkpoint has a whole manifest.
        """
        from transformer_foundry.core.files.folder_manifest import read_manifest
        from transformer_foundry.core.training.checkpointing.directory import checkpoint_origin, find_checkpoint

        if not self.checkpoints:
            return {}
        newest = self.checkpoints[-1]
        try:
            step = read_manifest(newest).get("best_step")
            return checkpoint_origin(newest if step is None else find_checkpoint(self.folder, step) or newest)
        except CheckpointError:
            return {}
