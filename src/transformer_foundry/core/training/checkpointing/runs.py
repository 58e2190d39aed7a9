"""The runs of a data folder with their key figures, and what is different between two of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.base.nested import differences
from transformer_foundry.core.files.json_lines import read_rows
from transformer_foundry.core.files.run_paths import METRICS_FILE, RUN_MANIFEST_FILE
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of

__all__ = ["RunSummary", "compare_manifests", "is_same_result", "list_runs", "read_run_manifest", "summarize_run"]

_COMPARED = ("identity", "parameters", "seeds", "total_steps")
_ENVIRONMENT = ("python", "packages", "platform", "gpu", "git_revision")


@dataclass(frozen=True)
class RunSummary:
    """Key figures of a run.

    Attributes:
        name: Name of its folder.
        step: Newest step that is saved.
        total_steps: Steps that were planned.
        sessions: How often it was started.
        train_loss: Newest training loss, nats per token.
        best_eval_loss: Lowest validation loss.
        model: Where the model came from.
        started_at: Beginning of the first session.
    """

    name: str
    step: int | None
    total_steps: int | None
    sessions: int
    train_loss: float | None
    best_eval_loss: float | None
    model: str
    started_at: str


def list_runs(models_folder: Path) -> list[RunSummary]:
    """Return the runs under ``models_folder``, the one that began first at the beginning."""
    manifests = sorted(models_folder.glob(f"*/{RUN_MANIFEST_FILE}"))
    return sorted((summarize_run(path.parent) for path in manifests), key=lambda run: (run.started_at, run.name))


def summarize_run(run_folder: Path) -> RunSummary:
    """Return the key figures of a run; what cannot be read is left empty."""
    manifest = _read(run_folder / RUN_MANIFEST_FILE)
    rows = read_rows(run_folder / METRICS_FILE)
    sessions = manifest.get("sessions", [])
    losses = [row["eval/loss"] for row in rows if "eval/loss" in row]
    return RunSummary(
        name=run_folder.name,
        step=max(map(step_of, list_checkpoints(run_folder)), default=None),
        total_steps=manifest.get("total_steps"),
        sessions=len(sessions),
        train_loss=next((row["train/loss"] for row in reversed(rows) if "train/loss" in row), None),
        best_eval_loss=min(losses, default=None),
        model=str(manifest.get("parameters", {}).get("model", {}).get("source", "")),
        started_at=str(sessions[0].get("started_at", "")) if sessions else "",
    )


def read_run_manifest(run_folder: Path) -> dict[str, Any]:
    """Return the manifest of a run.

    Raises:
        CheckpointError: If there is none.
    """
    manifest = _read(run_folder / RUN_MANIFEST_FILE)
    if not manifest:
        raise CheckpointError(
            f"{run_folder} has no manifest.json that can be read.",
            "The folder of a run was expected.",
            "See 'kedro runs list' for the runs.",
        )
    return manifest


def compare_manifests(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return in what two manifests of runs differ, by names like ``parameters.training.seed``."""
    return differences(_compared(first), _compared(second))


def is_same_result(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool | None:
    """Return whether two runs ended with the same weights and optimizer state to the bit; None if one has not ended."""
    results = first.get("result"), second.get("result")
    return None if None in results else results[0] == results[1]


def _compared(manifest: Mapping[str, Any]) -> dict[str, Any]:
    environment = manifest.get("environment", {})
    return {name: manifest.get(name) for name in _COMPARED} | {name: environment.get(name) for name in _ENVIRONMENT}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
