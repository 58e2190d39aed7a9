"""Commands that log recorded metrics to Weights & Biases: ``kedro tracking``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from transformer_foundry.cli.runs import run_folder, storage_options
from transformer_foundry.cli.tables import show_line
from transformer_foundry.core.files.run_paths import RunPaths

if TYPE_CHECKING:
    from transformer_foundry.config.storage import Storage

__all__ = ["tracking"]


@click.group(short_help="Log finished runs to Weights & Biases.")
def tracking() -> None:
    """Log finished runs to Weights & Biases."""


@tracking.command(short_help="Log a run to W&B as a new run.")
@click.argument("run")
@click.option("--project", default="transformer-foundry", show_default=True, help="W&B project.")
@storage_options
def replay(run: str, project: str, storage: Storage) -> None:
    """Log the metrics of RUN to Weights & Biases as a new run: online with a key, offline without one."""
    from transformer_foundry.config.hook_options import TrackingOptions
    from transformer_foundry.core.training.checkpointing.run_manifest import read_run_manifest
    from transformer_foundry.hooks.tracking.wandb_replay import replay_run

    folder = run_folder(run, storage)
    manifest = read_run_manifest(folder)
    rows = replay_run(folder, RunPaths.under(storage.data_dir, run).reports, TrackingOptions(project=project), manifest)
    show_line(f"{rows} rows logged.")
