"""Whether a disk has room for the checkpoints of a run, asked before the first step."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training.generations import list_checkpoints

__all__ = ["missing_space_bytes", "require_space"]

RESERVE_BYTES = 64 << 20
"""For metrics, samples and what else a run writes."""


def missing_space_bytes(run_folder: Path, checkpoint_bytes: int, keep_last: int) -> int:
    """Return how many bytes are missing for the checkpoints that ``run_folder`` will hold; 0 if there is room.

    At the worst moment there are the newest ``keep_last``, the best one and the one that is being written.
    """
    existing = len(list_checkpoints(run_folder))
    needed = max(1, keep_last + 2 - existing) * checkpoint_bytes + RESERVE_BYTES
    return max(0, needed - shutil.disk_usage(run_folder).free)


def require_space(run_folder: Path, checkpoint_bytes: int, keep_last: int) -> None:
    """Refuse to train where the disk would be full before the end.

    Args:
        run_folder: Folder of the run.
        checkpoint_bytes: Size of one checkpoint.
        keep_last: Newest checkpoints that are kept besides the best one.

    Raises:
        CheckpointError: If the checkpoints of the run do not fit on the disk.
    """
    missing = missing_space_bytes(run_folder, checkpoint_bytes, keep_last)
    if missing:
        raise CheckpointError(
            f"{run_folder} has too little free space: {missing / 2**20:.0f} MiB more are needed.",
            f"Checkpoints of {checkpoint_bytes / 2**20:.0f} MiB are kept: the newest {keep_last}, the best one and the "
            "one that is being written.",
            "Free space, set data_dir to another disk, or keep fewer with training.save_total_limit.",
        )
