"""Runs that begin with a checkpoint of another run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.folder_manifest import is_finished
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER
from transformer_foundry.core.training.checkpointing.checkpoint import newest_checkpoint, read_checkpoint
from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = ["read_fork"]


def read_fork(source: Path) -> TrainingState:
    """Return the state that a fork begins with; it remembers no best checkpoint, which stays with the other run.

    Args:
        source: Folder of a run, of which the newest checkpoint is taken, or of one checkpoint.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged.
    """
    notes: list[str] = []
    is_checkpoint = is_finished(source) and not (source / CHECKPOINTS_FOLDER).is_dir()
    folder = source if is_checkpoint else newest_checkpoint(source, notes)
    if folder is None:
        raise CheckpointError(
            f"run.fork_from is {source}, which has no checkpoint.",
            "The name of a run with checkpoints, or the folder of one checkpoint, was expected.",
            "See 'kedro runs list' for the runs and 'kedro checkpoints list RUN' for their checkpoints.",
        )
    state = read_checkpoint(folder, notes)
    loop = dataclasses.replace(state.loop, best_loss=None, best_step=None, evaluations_since_best=0, is_recorded=True)
    return dataclasses.replace(state, loop=loop, forked_from=str(folder))
