"""The files of a checkpoint: written so that they survive a crash at any moment, verified before they are read.

A run folder holds ``checkpoints/step-00000100-3f2a9c/`` with ``weights.safetensors``, ``optimizer.safetensors``,
``state.json``, the run's ``metrics.jsonl`` and ``samples.jsonl`` up to that step, its manifest as ``run.json``, and
``manifest.json``, which is written last and names size and sha256 of every other file. A folder without a manifest is
unfinished. Tensors are stored as safetensors, everything else as JSON, nothing with pickle.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from transformer_foundry.core.base.errors import CheckpointError, error_message
from transformer_foundry.core.files.atomic import copy_file, make_folder, sync, write_text
from transformer_foundry.core.files.folder_manifest import damaged_checkpoint, is_finished, write_folder_manifest
from transformer_foundry.core.files.json_lines import last_value, rows_up_to
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER, METRICS_FILE, RUN_MANIFEST_FILE
from transformer_foundry.core.system.random_state import RandomState
from transformer_foundry.core.training.checkpointing.directory import (
    FORMAT_VERSION,
    checkpoint_folders,
    checkpoint_name,
    checkpoint_origin,
    is_intact,
    revision_of,
    verify_checkpoint,
)
from transformer_foundry.core.training.checkpointing.retention import delete_checkpoint, quarantine
from transformer_foundry.core.training.checkpointing.run_files import RUN_COPY_FILE
from transformer_foundry.core.training.checkpointing.state import (
    CheckpointedState,
    LoopState,
    LossStatistics,
    LossWindow,
    RunDecisions,
    StepBatch,
    TimePlan,
    TrainingState,
)
from transformer_foundry.core.training.events import Checkpoint
from transformer_foundry.core.training.optim.optimizers import OptimizerState

__all__ = ["SessionMark", "read_checkpoint", "read_state", "state_size_bytes", "write_checkpoint", "write_state"]

_WEIGHTS_FILE = "weights.safetensors"
_OPTIMIZER_FILE = "optimizer.safetensors"
_STATE_FILE = "state.json"

_PLAIN_FIELDS = ("scaler", "total_steps", "batches_per_epoch", "options", "identity", "precision", "device")

_COUNTERS: dict[str, type[CheckpointedState]] = {
    "loop": LoopState,
    "loss_window": LossWindow,
    "loss_statistics": LossStatistics,
    "time_plan": TimePlan,
    "decisions": RunDecisions,
    "step_batch": StepBatch,
}
"""The fields of ``TrainingState`` that are stored together as ``counters`` of ``state.json``."""

_STORED_AS = {
    ("loss_window", "losses"): "window_losses",
    ("loss_window", "targets"): "window_targets",
    ("loss_statistics", "count"): "judged_steps",
    ("loss_statistics", "mean"): "loss_mean",
    ("loss_statistics", "variance"): "loss_variance",
    ("time_plan", "points"): "time_plan",
    ("decisions", "memory"): "memory_plan",
}
"""State and field -> key in ``counters``, where it is not the field's name."""


@dataclass(frozen=True)
class SessionMark:
    """Which session writes.

    Attributes:
        token: Six hexadecimal digits, unique to the session; they are part of the names of its checkpoints.
        fence: Number of the session: higher than that of every session it knows of.
    """

    token: str = ""
    fence: int = 0


def write_checkpoint(
    run_folder: Path, checkpoint: Checkpoint, logs: Sequence[Path] = (), *, session: SessionMark | None = None
) -> Path:
    """Write a checkpoint; when this returns, it survives a power cut.

    An intact checkpoint of the same step is left as it is if its counters are the same. If not (an interrupt in an
    evaluation saves the step before its result is known), it is replaced.

    Args:
        run_folder: Folder of the run.
        checkpoint: What ``fit`` yielded.
        logs: Files of JSON lines with ``step``; their lines up to the checkpoint's step become part of it.
        session: Who writes.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: If it cannot be written, for example because the disk is full; earlier checkpoints are intact.
    """
    session = session or SessionMark()
    earlier = checkpoint_folders(run_folder, checkpoint.step)
    intact = [folder for folder in earlier if is_intact(folder)]
    if intact and _read_counters(intact[-1]) == checkpoint.state.checkpointed:
        return intact[-1]
    for other in (folder for folder in earlier if folder not in intact):
        quarantine(other) if is_finished(other) else delete_checkpoint(other)
    revision = 1 + max(map(revision_of, intact)) if intact else 0
    folder = run_folder / CHECKPOINTS_FOLDER / checkpoint_name(checkpoint.step, session.token, revision)
    try:
        _write_folder(folder, checkpoint, logs, session)
    except OSError as err:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {checkpoint.step} cannot be written to {folder}: {err.strerror or err}.",
            f"About {state_size_bytes(checkpoint.state) / 2**20:.0f} MiB of free space in a folder that can be written "
            "were expected.",
            "Free space, or set data_dir to another disk, and run again: earlier checkpoints are intact.",
        ) from err
    for replaced in intact:
        delete_checkpoint(replaced)
    return folder


def read_checkpoint(folder: Path, notes: Sequence[str] = ()) -> TrainingState:
    """Verify and read a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        notes: Passed on in ``TrainingState.notes``.

    Raises:
        CheckpointError: If it is damaged or of a newer format.
    """
    from safetensors import SafetensorError

    verify_checkpoint(folder)
    try:
        try:
            state = read_state(folder, notes=tuple(notes))
        except OSError:  # one failed call is common on Drive and means nothing
            state = read_state(folder, notes=tuple(notes))
        return dataclasses.replace(state, made_from=checkpoint_origin(folder))
    except OSError as err:
        raise damaged_checkpoint(folder, f"it cannot be read: {err.strerror or err}") from err
    # The files are as they were written, so something else wrote them: any of these means that it is no state.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, SafetensorError, TypeError, ValueError) as err:
        raise damaged_checkpoint(
            folder, f"it holds no state of training ({type(err).__name__}: {error_message(err, 200)})"
        ) from err


def state_size_bytes(state: TrainingState) -> int:
    """Return the size of the tensors of ``state``, tied ones counted once: about the size of a checkpoint."""
    tensors: list[Tensor] = [*{id(tensor): tensor for tensor in state.model.values()}.values()]
    tensors += state.optimizer.tensors.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _write_folder(folder: Path, checkpoint: Checkpoint, logs: Sequence[Path], session: SessionMark) -> None:
    make_folder(folder)
    write_state(folder, checkpoint.state)
    texts = {log.name: rows_up_to(log, checkpoint.step) for log in logs}
    for name, text in texts.items():
        write_text(folder / name, text)
    run_manifest = folder.parent.parent / RUN_MANIFEST_FILE
    if run_manifest.is_file():
        copy_file(run_manifest, folder / RUN_COPY_FILE)
    values = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "reason": checkpoint.reason,
        "best_step": checkpoint.state.loop.best_step,
        # For lists of thousands of runs, each with tens of thousands of rows.
        "losses": {
            "train": last_value(texts.get(METRICS_FILE, ""), "train/loss"),
            "eval": checkpoint.state.loop.best_loss,
        },
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": dict(checkpoint.state.identity),
        "is_averaged": checkpoint.state.options.get("ema_decay") is not None,
        "session": session.token,
        "fence": session.fence,
    }
    write_folder_manifest(folder, values)


def write_state(folder: Path, state: TrainingState) -> None:
    """Write the three files of ``state`` into ``folder``, durably."""
    weights, aliases = _distinct(state.model)
    _save_tensors(folder / _WEIGHTS_FILE, weights)
    _save_tensors(folder / _OPTIMIZER_FILE, state.optimizer.tensors)
    values = {
        "counters": {
            _STORED_AS.get((part, name), name): value
            for part, counters in state.checkpointed.items()
            for name, value in counters.state_dict().items()
        },
        "aliases": aliases,
        "optimizer": {"values": state.optimizer.values, "groups": state.optimizer.groups},
        "random": state.random.to_json(),
        **{name: _plain(getattr(state, name)) for name in _PLAIN_FIELDS},
    }
    write_text(folder / _STATE_FILE, json.dumps(values) + "\n")


def read_state(folder: Path, *, notes: tuple[str, ...] = ()) -> TrainingState:
    """Read the files of ``write_state``, which must be verified before."""
    values = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
    weights = _load_tensors(folder / _WEIGHTS_FILE)
    for name in ("identity", "options"):
        if not isinstance(values[name], dict):
            raise TypeError(f"{name} is no object of JSON")
    return TrainingState(
        model={name: weights[values["aliases"].get(name, name)] for name in [*weights, *values["aliases"]]},
        optimizer=OptimizerState(_load_tensors(folder / _OPTIMIZER_FILE), **values["optimizer"]),
        random=RandomState.from_json(values["random"]),
        notes=notes,
        **_load_counters(values["counters"]),
        **{name: values[name] for name in _PLAIN_FIELDS},
    )


def _read_counters(folder: Path) -> dict[str, Any]:
    return _load_counters(json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))["counters"])


def _load_counters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states in the counters of any version: a field that it did not have has its default."""
    states = {part: kind() for part, kind in _COUNTERS.items()}
    for part, state in states.items():
        keys = {field.name: _STORED_AS.get((part, field.name), field.name) for field in dataclasses.fields(state)}
        state.load_state_dict({name: values[key] for name, key in keys.items() if key in values})
    return states


def _distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split into tensors to store and names that stand for one of them: safetensors refuses shared memory."""
    first_name: dict[int, str] = {}
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        if id(tensor) in first_name:
            aliases[name] = first_name[id(tensor)]
        else:
            first_name[id(tensor)] = name
            stored[name] = tensor
    return stored, aliases


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as err:  # how it reports a full disk
        raise OSError(str(err)) from err
    sync(path)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
