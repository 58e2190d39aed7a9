"""Log the metrics file of a run to W&B after the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.config.hook_options import TrackingOptions
from transformer_foundry.core.files.json_lines import read_rows
from transformer_foundry.core.files.run_paths import LOG_FILES, METRICS_FILE
from transformer_foundry.hooks.tracking.wandb_run import WandbRun

__all__ = ["replay_run"]


def replay_run(run_folder: Path, folder: Path, options: TrackingOptions, manifest: Mapping[str, Any]) -> int:
    """Log the rows of ``metrics.jsonl`` and the samples as a new W&B run, and return how many rows there are.

    Args:
        run_folder: Folder of the run; nothing in it is changed.
        folder: Where wandb keeps its own files.
        options: Project and mode.
        manifest: The run's manifest, shown as its configuration.
    """
    rows = read_rows(run_folder / METRICS_FILE)
    with tempfile.TemporaryDirectory() as copy:
        for name in LOG_FILES:
            if (run_folder / name).is_file():
                shutil.copyfile(run_folder / name, Path(copy) / name)
        wandb_run = WandbRun(options, run_name=run_folder.name, run_folder=Path(copy), folder=folder, config=manifest)
        wandb_run.log_rows_until(rows[-1]["step"] if rows else -1)
        wandb_run.finish()
    return len(rows)
