"""The manifest of a run: what it was trained with, by which sessions; runs listed and compared by it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.base.nested import differences
from transformer_foundry.core.base.secrets import redact_values
from transformer_foundry.core.files.folder_manifest import read_manifest
from transformer_foundry.core.files.json_lines import read_rows
from transformer_foundry.core.files.run_paths import METRICS_FILE
from transformer_foundry.core.system.environment import describe_environment
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of
from transformer_foundry.core.training.checkpointing.run_files import read_run_record
from transformer_foundry.core.training.options import TrainingOptions

__all__ = [
    "MANIFEST_FORMAT_VERSION",
    "RunSummary",
    "compare_manifests",
    "describe_run",
    "is_same_result",
    "list_runs",
    "read_run_manifest",
    "summarize_run",
]

MANIFEST_FORMAT_VERSION = 1

_LARGEST = 1e300
"""Beyond it a whole number of a file is too large for a float."""

_COMPARED = ("identity", "parameters", "seeds", "total_steps")
_ENVIRONMENT = ("python", "packages", "platform", "gpu", "git_revision")


def describe_run(
    options: TrainingOptions,
    identity: Mapping[str, str],
    *,
    step: int,
    total_steps: int,
    world_size: int = 1,
    rows_per_step: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest of a run; its only session is the one that starts now.

    Args:
        options: The training options.
        identity: Digests by name of model, data and tokenizer.
        step: Updates done before this session.
        total_steps: Updates of the whole run.
        world_size: Processes that share the updates of this session.
        rows_per_step: Rows of an update, over all processes.
        extra: More entries; ``parameters`` (sections by name) and ``seeds`` are merged, others are added.
    """
    extra = dict(extra or {})
    parameters = dict(extra.pop("parameters", {}))
    parameters["training"] = {**parameters.get("training", {}), **dataclasses.asdict(options)}
    environment = describe_environment()
    return {
        "format_version": MANIFEST_FORMAT_VERSION,
        "identity": dict(identity),
        # The address of data may contain a password.
        "parameters": redact_values(parameters),
        "seeds": {"training": options.seed, **extra.pop("seeds", {})},
        "total_steps": total_steps,
        "environment": environment,
        "sessions": [
            {
                "step": step,
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": environment["command"],
                "git_revision": environment["git_revision"],
                "world_size": world_size,
                "rows_per_step": rows_per_step,
            }
        ],
        **extra,
    }


@dataclass(frozen=True)
class RunSummary:
    """Key figures of a run.

    Attributes:
        name: Name of its folder.
        step: Newest step that is saved.
        total_steps: Steps that were planned.
        sessions: How often it was started.
        train_loss: Newest training loss up to ``step``, nats per token.
        best_eval_loss: Lowest validation loss up to ``step``.
        model: Where the model came from.
        started_at: Start of the first session.
        parameters: What it was trained with, by section.
    """

    name: str
    step: int | None
    total_steps: int | None
    sessions: int
    train_loss: float | None
    best_eval_loss: float | None
    model: str
    started_at: str
    parameters: Mapping[str, Any]


def list_runs(run_folders: Iterable[Path]) -> list[RunSummary]:
    """Return the key figures of runs, oldest first."""
    return sorted(map(summarize_run, run_folders), key=lambda run: (run.started_at, run.name))


def summarize_run(run_folder: Path) -> RunSummary:
    """Return the key figures of a run; None stands for what cannot be read."""
    manifest = read_run_record(run_folder)
    checkpoints = list_checkpoints(run_folder)
    step = step_of(checkpoints[-1]) if checkpoints else None
    train_loss, best_eval_loss = _losses(run_folder, checkpoints[-1]) if checkpoints else (None, None)
    sessions, parameters = manifest.get("sessions", []), manifest.get("parameters", {})
    return RunSummary(
        name=run_folder.name,
        step=step,
        total_steps=manifest.get("total_steps"),
        sessions=len(sessions),
        train_loss=train_loss,
        best_eval_loss=best_eval_loss,
        model=str(parameters.get("model", {}).get("source", "")),
        started_at=str(sessions[0].get("started_at", "")) if sessions else "",
        parameters=parameters,
    )


def _losses(run_folder: Path, newest: Path) -> tuple[float | None, float | None]:
    """Return the newest training loss and the lowest validation loss up to a checkpoint; what came later is lost."""
    with contextlib.suppress(CheckpointError):
        losses = read_manifest(newest).get("losses")
        if isinstance(losses, dict):
            return _number(losses.get("train")), _number(losses.get("eval"))
    # Checkpoints of version 0.1.0 have none.
    last, rows = step_of(newest), read_rows(run_folder / METRICS_FILE)
    rows = [row for row in rows if isinstance(step := row.get("step", 0), int) and step <= last]
    train, evaluated = ([_number(row.get(name)) for row in rows] for name in ("train/loss", "eval/loss"))
    return (
        next((loss for loss in reversed(train) if loss is not None), None),
        min((loss for loss in evaluated if loss is not None), default=None),
    )


def _number(value: object) -> float | None:
    """Return a number of a file, which may come from someone else; None for anything else."""
    return float(value) if isinstance(value, int | float) and abs(value) < _LARGEST else None


def read_run_manifest(run_folder: Path) -> dict[str, Any]:
    """Return the manifest of a run.

    Raises:
        CheckpointError: If there is none.
    """
    manifest = read_run_record(run_folder)
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
