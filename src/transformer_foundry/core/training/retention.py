"""Which checkpoint generations stay, and what becomes of the others."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformer_foundry.core.training.durable import sync
from transformer_foundry.core.training.generations import generations, list_checkpoints, step_of
from transformer_foundry.core.training.sealed import MANIFEST_FILE, is_finished

__all__ = ["delete_checkpoint", "prune_checkpoints", "set_aside", "set_aside_after"]


def prune_checkpoints(run_folder: Path, keep_last: int, best_step: int | None = None) -> list[Path]:
    """Delete all finished generations but those of the newest ``keep_last`` steps and of the best; return them."""
    finished = list_checkpoints(run_folder)
    by_step = {step_of(folder): folder for folder in finished}  # of a step, the one that replaced the others
    kept = {folder for step, folder in by_step.items() if step in {*list(by_step)[-keep_last:], best_step}}
    deleted = [folder for folder in finished if folder not in kept]
    for folder in deleted:
        delete_checkpoint(folder)
    return deleted


def set_aside_after(run_folder: Path, step: int) -> list[Path]:
    """Move away what a run that goes on from ``step`` will write again; return where it went.

    Finished generations of later steps (damaged, or of another attempt) are kept under another name; unfinished ones
    hold nothing of use and are deleted.
    """
    moved = []
    for folder in generations(run_folder):
        if not is_finished(folder):
            delete_checkpoint(folder)
        elif step_of(folder) > step:
            moved.append(set_aside(folder))
    return moved


def set_aside(folder: Path) -> Path:
    """Give ``folder`` a name under which it is never read again, and return it."""
    number = 1
    while (target := folder.with_name(f"aside-{number}-{folder.name}")).exists():
        number += 1
    folder.rename(target)
    sync(folder.parent)
    return target


def delete_checkpoint(folder: Path) -> None:
    """Delete a generation; a kill on the way leaves it unfinished, not damaged."""
    manifest = folder / MANIFEST_FILE
    if manifest.is_dir() and not manifest.is_symlink():
        shutil.rmtree(manifest, ignore_errors=True)
    else:
        manifest.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
