"""Commands about what is kept: ``kedro checkpoints``, ``kedro runs`` and ``kedro tracking``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["checkpoints", "runs", "tracking"]

_data_dir = click.option("--data-dir", default="data", show_default=True, help="Root of everything that is written.")
_step = click.option("--step", type=int, help="Step of the checkpoint; the newest intact one by default.")


@click.group(short_help="List, export and restore checkpoints.")
def checkpoints() -> None:
    """List, inspect, export and restore the checkpoints of a run."""


@click.group()
def runs() -> None:
    """List the runs, or compare two."""


@click.group()
def tracking() -> None:
    """Bring a run to Weights & Biases."""


@checkpoints.command("list")
@click.argument("run")
@_data_dir
def list_command(run: str, data_dir: str) -> None:
    """List the checkpoints of RUN, and whether each is intact."""
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.files.folder_manifest import read_manifest
    from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, verify_checkpoint

    folders = list_checkpoints(_run_folder(run, data_dir))
    for folder in folders:
        try:
            verify_checkpoint(folder)
            manifest = read_manifest(folder)
        except CheckpointError as err:
            click.echo(f"{folder.name}  DAMAGED: {err.problem}")
            continue
        size = sum(file["size"] for file in manifest["files"].values())
        best = "  best" if manifest["best_step"] == manifest["step"] else ""
        click.echo(
            f"{folder.name}  step {manifest['step']}  {manifest['reason']}  {size / 2**20:.1f} MiB  "
            f"{manifest['written_at']}  intact{best}"
        )
    if not folders:
        click.echo("No checkpoints.")


@checkpoints.command()
@click.argument("run")
@_step
@_data_dir
def inspect(run: str, step: int | None, data_dir: str) -> None:
    """Show what a checkpoint of RUN holds."""
    from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint

    folder = _find(run, step, data_dir)
    state = read_checkpoint(folder)
    tensors = {id(tensor): tensor for tensor in state.model.values()}.values()
    click.echo(f"{folder}\nstep {state.step} of {state.total_steps}, epoch {state.epoch}, {state.precision}")
    click.echo(f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors):,} numbers in the model")
    for title, values in (("metrics", state.metrics), ("options", state.options), ("identity", state.identity)):
        click.echo(f"{title}:")
        for name, value in values.items():
            click.echo(f"  {name}: {value}")


@checkpoints.command(short_help="Copy a checkpoint into a folder, verified.")
@click.argument("run")
@click.argument("folder", type=click.Path(path_type=Path))
@_step
@_data_dir
def export(run: str, folder: Path, step: int | None, data_dir: str) -> None:
    """Copy a checkpoint of RUN into FOLDER, verified; weights.safetensors there is what safetensors reads."""
    from transformer_foundry.core.training.checkpointing.copy_checkpoint import copy_checkpoint

    source = _find(run, step, data_dir)
    target = folder / source.name
    _require_absent(target)
    copy_checkpoint(source, target)
    click.echo(f"Exported to {target}.")


@checkpoints.command(short_help="Go on from an earlier checkpoint.")
@click.argument("run")
@_step
@click.option("--from", "source", type=click.Path(path_type=Path), help="A checkpoint that was exported.")
@_data_dir
def restore(run: str, step: int | None, source: Path | None, data_dir: str) -> None:
    """Have RUN go on from an earlier checkpoint, or from an exported one; later ones are kept aside."""
    from transformer_foundry.core.files.lock import RunLock
    from transformer_foundry.core.training.checkpointing.copy_checkpoint import copy_checkpoint
    from transformer_foundry.core.training.checkpointing.directory import is_whole, step_of, verify_checkpoint
    from transformer_foundry.core.training.checkpointing.retention import set_aside_after

    run_folder = Path(data_dir) / "06_models" / run
    source = source or _find(run, step, data_dir)
    verify_checkpoint(source)
    lock = RunLock(run_folder)
    lock.acquire()
    try:
        moved = set_aside_after(run_folder, step_of(source))
        target = run_folder / "checkpoints" / source.name
        if not is_whole(target):
            copy_checkpoint(source, target)
    finally:
        lock.release()
    click.echo(f"{run} goes on from step {step_of(source)}; {len(moved)} later checkpoints are kept aside.")


@runs.command("list")
@_data_dir
def list_runs_command(data_dir: str) -> None:
    """List all runs with their key figures."""
    from transformer_foundry.core.training.checkpointing.runs import list_runs

    found = list_runs(Path(data_dir) / "06_models")
    if not found:
        click.echo(f"There is no run in {Path(data_dir) / '06_models'} yet. 'kedro run' makes one.")
        return
    rows = [("run", "step", "of", "sessions", "train loss", "best eval", "started", "model")]
    rows += [
        (
            run.name,
            _text(run.step),
            _text(run.total_steps),
            str(run.sessions),
            _number(run.train_loss),
            _number(run.best_eval_loss),
            run.started_at,
            run.model,
        )
        for run in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@runs.command(short_help="Show what is different between two runs.")
@click.argument("first")
@click.argument("second")
@_data_dir
def compare(first: str, second: str, data_dir: str) -> None:
    """Show what is different between two runs, and whether they came out the same to the bit."""
    from transformer_foundry.core.training.checkpointing.runs import (
        differences,
        is_same_result,
        read_run_manifest,
        summarise_run,
    )

    folders = [_run_folder(name, data_dir) for name in (first, second)]
    manifests = [read_run_manifest(folder) for folder in folders]
    for name, (before, now) in differences(*manifests).items():
        click.echo(f"{name}: {before} | {now}")
    summaries = [summarise_run(folder) for folder in folders]
    click.echo(f"train loss: {' | '.join(_number(run.train_loss) for run in summaries)}")
    click.echo(f"best eval loss: {' | '.join(_number(run.best_eval_loss) for run in summaries)}")
    verdict = {True: "the same to the bit", False: "not the same", None: "not known: one has not ended"}
    click.echo(f"final weights and optimizer: {verdict[is_same_result(*manifests)]}")


@tracking.command(short_help="Log a run to W&B as a new run.")
@click.argument("run")
@click.option("--project", default="transformer-foundry", show_default=True, help="W&B project.")
@_data_dir
def replay(run: str, project: str, data_dir: str) -> None:
    """Log the metrics file of RUN to Weights & Biases as a new run: online with a key, offline without one."""
    from transformer_foundry.core.training.checkpointing.runs import read_run_manifest
    from transformer_foundry.hooks.options import TrackingOptions
    from transformer_foundry.hooks.tracking.replay import replay_run

    folder = _run_folder(run, data_dir)
    manifest = read_run_manifest(folder)
    reports = Path(data_dir) / "08_reporting" / run
    rows = replay_run(folder, reports, TrackingOptions(project=project), manifest)
    click.echo(f"{rows} rows were logged.")


def _run_folder(run: str, data_dir: str) -> Path:
    from transformer_foundry.core.base.errors import CheckpointError, suggestion

    folder = Path(data_dir) / "06_models" / run
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise CheckpointError(
            f"There is no run named {run!r} in {folder.parent}.{suggestion(run, known)}",
            f"Known: {', '.join(known) or 'none'}.",
            "Name one of them, or another root with --data-dir.",
        )
    return folder


def _find(run: str, step: int | None, data_dir: str) -> Path:
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.core.training.checkpointing.directory import find_checkpoint, newest_checkpoint

    run_folder = _run_folder(run, data_dir)
    folder = newest_checkpoint(run_folder) if step is None else find_checkpoint(run_folder, step)
    if folder is None:
        raise CheckpointError(
            f"The run {run} has no checkpoint{'' if step is None else f' of step {step}'}.",
            "One that was saved and kept was expected.",
            f"See 'kedro checkpoints list {run}'.",
        )
    return folder


def _require_absent(target: Path) -> None:
    from transformer_foundry.core.base.errors import CheckpointError

    if target.exists():
        raise CheckpointError(f"{target} exists.", "A new folder was expected.", "Choose another FOLDER.")


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
