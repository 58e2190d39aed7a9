"""Which checkpoints are kept, deleted or quarantined, and the disk space that they need."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, is_finished
from transformer_foundry.core.training.checkpointing.directory import checkpoint_folders, list_checkpoints, step_of

__all__ = [
    "delete_checkpoint",
    "prune_checkpoints",
    "quarantine",
    "quarantine_after",
    "require_space",
]

MAX_QUARANTINED = 2
"""Quarantined checkpoints that are kept: each takes the space of a checkpoint, and the newest hold the most work."""


def prune_checkpoints(run_folder: Path, keep_last: int, best_step: int | None = None) -> list[Path]:
    """Delete all finished checkpoints except those of the newest ``keep_last`` steps and of the best; return them."""
    finished = list_checkpoints(run_folder)
    by_step = {step_of(folder): folder for folder in finished}  # of a step, the one that replaced the others
    kept = {folder for step, folder in by_step.items() if step in {*list(by_step)[-keep_last:], best_step}}
    deleted = [folder for folder in finished if folder not in kept]
    for folder in deleted:
        delete_checkpoint(folder)
    return deleted


def quarantine_after(run_folder: Path, step: int) -> list[Path]:
    """Quarantine the checkpoints that a run resumed from ``step`` will write again; return their new folders.

    These are finished checkpoints of later steps (damaged, or of another attempt). Unfinished ones are deleted.
    """
    moved = []
    for folder in checkpoint_folders(run_folder):
        if not is_finished(folder):
            delete_checkpoint(folder)
        elif step_of(folder) > step:
            moved.append(folder)
    return quarantine(*moved)


def quarantine(*folders: Path) -> list[Path]:
    """Rename ``folders`` so that they are never read again, and return the new folders.

    Of those that were quarantined before, the oldest are deleted until ``MAX_QUARANTINED`` are left together.
    """
    moved = [_rename(folder) for folder in folders]
    for parent in {folder.parent for folder in folders}:
        sync(parent)
        earlier = sorted((path for path in parent.glob("aside-*") if path not in moved), key=_made_at)
        for folder in earlier[: max(0, len(earlier) + len(moved) - MAX_QUARANTINED)]:
            shutil.rmtree(folder, ignore_errors=True)
    return moved


def _rename(folder: Path) -> Path:
    number = 1
    while (target := folder.with_name(f"aside-{number}-{folder.name}")).exists():
        number += 1
    folder.rename(target)
    return target


def _made_at(folder: Path) -> tuple[int, str]:
    return folder.stat().st_mtime_ns, folder.name


def delete_checkpoint(folder: Path) -> None:
    """Delete a checkpoint; a kill in between leaves it unfinished, not damaged."""
    manifest = folder / MANIFEST_FILE
    if manifest.is_dir() and not manifest.is_symlink():
        shutil.rmtree(manifest, ignore_errors=True)
    else:
        manifest.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


RESERVE_BYTES = 64 << 20
"""Space for metrics, samples and everything else that a run writes."""


def require_space(run_folder: Path, checkpoint_bytes: int, keep_last: int) -> None:
    """Raise an error if the disk would be full before the end of training.

    At most there are the newest ``keep_last`` checkpoints, the best one and the one that is being written.

    Args:
        run_folder: Folder of the run.
        checkpoint_bytes: Size of one checkpoint.
        keep_last: Newest checkpoints that are kept besides the best one.

    Raises:
        CheckpointError: If the checkpoints of the run do not fit on the disk.
    """
    added = max(1, keep_last + 2 - len(list_checkpoints(run_folder)))
    missing = added * checkpoint_bytes + RESERVE_BYTES - shutil.disk_usage(run_folder).free
    if missing > 0:
        raise CheckpointError(
            f"{run_folder} has too little free space: {missing / 2**20:.0f} MiB more are needed.",
            f"Checkpoints of {checkpoint_bytes / 2**20:.0f} MiB are kept: the newest {keep_last}, the best one and the "
            "one that is being written.",
            "Free space, set data_dir to another disk, or keep fewer with training.save_total_limit.",
        )
