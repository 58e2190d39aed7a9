"""Commands that list, inspect, export and restore checkpoints: ``kedro checkpoints``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transformer_foundry.cli.runs import require_contained_run, run_folder, storage_options
from transformer_foundry.cli.tables import show_line
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER

if TYPE_CHECKING:
    from transformer_foundry.config.storage import Storage

__all__ = ["checkpoints"]


_MOST_STEPS = 10**12

_step = click.option("--step", type=int, help="Step of the checkpoint; the newest intact one by default.")


@click.group(short_help="List, export and restore checkpoints.")
def checkpoints() -> None:
    """List, inspect, export and restore the checkpoints of a run."""


@checkpoints.command("list")
@click.argument("run")
@storage_options
def list_command(run: str, storage: Storage) -> None:
    """List the checkpoints of RUN and whether each is intact."""
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.files.folder_manifest import read_manifest
    from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, verify_checkpoint

    folders = list_checkpoints(run_folder(run, storage))
    for folder in folders:
        try:
            verify_checkpoint(folder)
            manifest = read_manifest(folder)
        except CheckpointError as err:
            show_line(f"{folder.name}  DAMAGED: {err.problem}")
            continue
        size = sum(file["size"] for file in manifest["files"].values())
        best = "  best" if manifest["best_step"] == manifest["step"] else ""
        show_line(
            f"{folder.name}  step {manifest['step']}  {manifest.get('reason', '-')}  {size / 2**20:.1f} MiB  "
            f"{manifest.get('written_at', '-')}  intact{best}"
        )
    if not folders:
        show_line(f"The run {run} has no checkpoints.")


@checkpoints.command()
@click.argument("run")
@_step
@storage_options
def inspect(run: str, step: int | None, storage: Storage) -> None:
    """Show the state, metrics and options in a checkpoint of RUN."""
    from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint

    folder = _find(run, step, storage)
    state = read_checkpoint(folder)
    tensors = {id(tensor): tensor for tensor in state.model.values()}.values()
    show_line(folder)
    show_line(f"step {state.step} of {state.total_steps}, epoch {state.epoch}, {state.precision}")
    show_line(f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors):,} elements in the model")
    for title, values in (("metrics", state.metrics), ("options", state.options), ("identity", state.identity)):
        show_line(f"{title}:")
        for name, value in values.items():
            show_line(f"  {name}: {value}")


@checkpoints.command(short_help="Copy a checkpoint into a folder.")
@click.argument("run")
@click.argument("folder", type=click.Path(path_type=Path))
@_step
@storage_options
def export(run: str, folder: Path, step: int | None, storage: Storage) -> None:
    """Copy a checkpoint of RUN into FOLDER and verify the copy.

    The weights are in weights.safetensors, which the safetensors library reads.
    """
    from transformer_foundry.core.training.checkpointing.directory import copy_checkpoint

    source = _find(run, step, storage)
    target = folder / source.name
    _require_absent(target)
    copy_checkpoint(source, target)
    show_line(f"Exported to {target}.")


@checkpoints.command(short_help="Resume a run from an earlier checkpoint.")
@click.argument("run")
@_step
@click.option("--from", "source", type=click.Path(path_type=Path), help="Folder of an exported checkpoint.")
@storage_options
def restore(run: str, step: int | None, source: Path | None, storage: Storage) -> None:
    """Make the next training of RUN resume from an earlier checkpoint, or from an exported one.

    Later checkpoints are moved aside, not deleted.
    """
    from transformer_foundry.core.files.lock import RunLock
    from transformer_foundry.core.files.run_paths import RunPaths
    from transformer_foundry.core.reports import mark_outdated
    from transformer_foundry.core.training.checkpointing.directory import (
        copy_checkpoint,
        is_intact,
        step_of,
        verify_checkpoint,
    )
    from transformer_foundry.core.training.checkpointing.retention import quarantine_after

    require_contained_run(run, storage)
    target_run = storage.run(run)
    source = _exported(source) if source else _find(run, step, storage)
    verify_checkpoint(source)
    lock = RunLock(target_run)
    lock.acquire()
    try:
        moved = quarantine_after(target_run, step_of(source))
        target = target_run / CHECKPOINTS_FOLDER / source.name
        if not is_intact(target):
            copy_checkpoint(source, target)
    finally:
        lock.release()
    mark_outdated(
        RunPaths.under(storage.data_dir, run).report, f"The checkpoint of step {step_of(source)} was restored"
    )
    show_line(f"{run} resumes from step {step_of(source)}; {len(moved)} later checkpoints were moved aside.")


def _find(run: str, step: int | None, storage: Storage) -> Path:
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.training.checkpointing.directory import find_checkpoint, newest_checkpoint

    origin = run_folder(run, storage)
    folder = newest_checkpoint(origin) if step is None else find_checkpoint(origin, step)
    if folder is None:
        raise CheckpointError(
            f"The run {run} has no checkpoint{'' if step is None else f' of step {step}'}.",
            "Expected a checkpoint that was saved and kept.",
            f"Run 'kedro checkpoints list {run}' to see the checkpoints.",
        )
    return folder


def _exported(folder: Path) -> Path:
    """Return the folder of an exported checkpoint.

    Raises:
        CheckpointError: If it has another name than a checkpoint, from which its step is known, or no manifest.
        DataError: If a link leads out of it.
    """
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.files.folder_manifest import read_manifest
    from transformer_foundry.core.files.plain_files import require_contained
    from transformer_foundry.core.training.checkpointing.directory import checkpoint_name, is_checkpoint_name

    require_contained(folder)
    named = Path(os.path.abspath(folder))  # of "." too
    if not is_checkpoint_name(named.name):
        step = read_manifest(folder).get("step")
        name = checkpoint_name(step if isinstance(step, int) and 0 <= step < _MOST_STEPS else 100)
        raise CheckpointError(
            f"{folder} is not the name of a checkpoint.",
            f"Expected the folder as 'kedro checkpoints export' has called it, such as {name}.",
            f"Rename the folder to {name}.",
        )
    return named


def _require_absent(target: Path) -> None:
    from transformer_foundry.core.base.errors import CheckpointError

    if target.exists():
        raise CheckpointError(
            f"{target} exists.", "Expected a folder that does not exist yet.", "Choose another FOLDER."
        )
