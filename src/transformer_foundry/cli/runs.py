"""Commands that list and compare training runs: ``kedro runs``."""

from __future__ import annotations

from pathlib import Path

import click

from transformer_foundry.cli.tables import show_table, text_of
from transformer_foundry.core.files.run_paths import runs_folder

__all__ = ["data_dir_option", "run_folder", "runs"]


data_dir_option = click.option("--data-dir", default="data", show_default=True, help="Root folder of all output.")


@click.group(short_help="List runs, compare two of them.")
def runs() -> None:
    """List the training runs, or compare two of them."""


@runs.command("list")
@data_dir_option
def list_runs_command(data_dir: str) -> None:
    """List all runs with their steps and losses."""
    from transformer_foundry.core.training.checkpointing.run_manifest import list_runs

    folder = runs_folder(data_dir)
    found = list_runs(folder)
    if not found:
        click.echo(f"No runs in {folder} yet. 'kedro run' creates one.")
        return
    rows = [("run", "step", "of", "sessions", "train loss", "best eval", "started", "model")]
    rows += [
        (
            run.name,
            text_of(run.step),
            text_of(run.total_steps),
            str(run.sessions),
            _number(run.train_loss),
            _number(run.best_eval_loss),
            run.started_at,
            run.model,
        )
        for run in found
    ]
    show_table(rows)


@runs.command(short_help="Show the differences between two runs.")
@click.argument("first")
@click.argument("second")
@data_dir_option
def compare(first: str, second: str, data_dir: str) -> None:
    """Show the differences between two runs, and whether their results are bit-for-bit identical."""
    from transformer_foundry.core.training.checkpointing.run_manifest import (
        compare_manifests,
        is_same_result,
        read_run_manifest,
        summarize_run,
    )

    folders = [run_folder(name, data_dir) for name in (first, second)]
    manifests = [read_run_manifest(folder) for folder in folders]
    for name, (before, now) in compare_manifests(*manifests).items():
        click.echo(f"{name}: {before} | {now}")
    summaries = [summarize_run(folder) for folder in folders]
    click.echo(f"train loss: {' | '.join(_number(run.train_loss) for run in summaries)}")
    click.echo(f"best eval loss: {' | '.join(_number(run.best_eval_loss) for run in summaries)}")
    verdict = {True: "bit-for-bit identical", False: "different", None: "unknown: a run has not finished"}
    click.echo(f"final weights and optimizer: {verdict[is_same_result(*manifests)]}")


def run_folder(run: str, data_dir: str) -> Path:
    """Return the folder of ``run``.

    Raises:
        CheckpointError: If there is none; names the nearest one.
    """
    from transformer_foundry.core.base.errors import CheckpointError, suggestion

    folder = runs_folder(data_dir) / run
    if not folder.is_dir():
        known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise CheckpointError(
            f"There is no run named {run!r} in {folder.parent}.{suggestion(run, known)}",
            f"Known: {', '.join(known) or 'none'}.",
            "Use one of these names, or set another root with --data-dir.",
        )
    return folder


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
