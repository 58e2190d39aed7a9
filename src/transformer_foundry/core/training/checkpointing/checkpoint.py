"""Checkpoint generations on disk: what survives a crash at any moment.

A run folder holds ``checkpoints/step-00000100-3f2a9c/`` with ``weights.safetensors``, ``optimizer.safetensors``,
``state.json``, the run's ``metrics.jsonl`` and ``samples.jsonl`` up to that step, and ``manifest.json``, which is
written last and names size and sha256 of every other file. A folder without a manifest was never finished.
``generations`` says what the names mean and which generation to trust, ``retention`` which ones stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import make_folder, write_text
from transformer_foundry.core.files.folder_manifest import damaged_checkpoint, is_finished, write_folder_manifest
from transformer_foundry.core.files.json_lines import rows_up_to
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER
from transformer_foundry.core.training.checkpointing.directory import (
    FORMAT_VERSION,
    best_checkpoint,
    checkpoint_folders,
    checkpoint_name,
    find_checkpoint,
    is_intact,
    list_checkpoints,
    newest_checkpoint,
    revision_of,
    verify_checkpoint,
)
from transformer_foundry.core.training.checkpointing.retention import (
    delete_checkpoint,
    prune_checkpoints,
    quarantine,
    quarantine_after,
)
from transformer_foundry.core.training.checkpointing.serialization import read_checkpointed, read_state, write_state
from transformer_foundry.core.training.checkpointing.state import TrainingState
from transformer_foundry.core.training.events import Checkpoint

__all__ = [
    "FORMAT_VERSION",
    "SessionMark",
    "best_checkpoint",
    "find_checkpoint",
    "list_checkpoints",
    "newest_checkpoint",
    "prune_checkpoints",
    "quarantine_after",
    "read_checkpoint",
    "state_size_bytes",
    "verify_checkpoint",
    "write_checkpoint",
]


@dataclass(frozen=True)
class SessionMark:
    """Which session writes.

    Attributes:
        token: Six hexadecimal digits that no other session has; they are part of the names of its generations.
        fence: Number of the session: higher than that of every session it knows of.
    """

    token: str = ""
    fence: int = 0


def write_checkpoint(
    run_folder: Path, checkpoint: Checkpoint, logs: Sequence[Path] = (), *, session: SessionMark | None = None
) -> Path:
    """Write a generation; when this returns, it survives a power cut.

    A generation of the same step that is whole is left as it is if its counters are those of the checkpoint. If not
    (an interrupt in an evaluation saves the step before its result is known), it is replaced.

    Args:
        run_folder: Folder of the run.
        checkpoint: What ``fit`` yielded.
        logs: Files of JSON lines with ``step``; their lines up to the checkpoint's step become part of it.
        session: Who writes.

    Returns:
        The folder of the generation.

    Raises:
        CheckpointError: If it cannot be written, for example because the disk is full; earlier generations are intact.
    """
    session = session or SessionMark()
    earlier = checkpoint_folders(run_folder, checkpoint.step)
    whole = [folder for folder in earlier if is_intact(folder)]
    if whole and read_checkpointed(whole[-1]) == checkpoint.state.checkpointed:
        return whole[-1]
    for other in (folder for folder in earlier if folder not in whole):
        quarantine(other) if is_finished(other) else delete_checkpoint(other)
    revision = 1 + max(map(revision_of, whole)) if whole else 0
    folder = run_folder / CHECKPOINTS_FOLDER / checkpoint_name(checkpoint.step, session.token, revision)
    try:
        _write_generation(folder, checkpoint, logs, session)
    except OSError as err:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {checkpoint.step} cannot be written to {folder}: {err.strerror or err}.",
            f"About {state_size_bytes(checkpoint.state) / 2**20:.0f} MiB of free space in a folder that can be written "
            "were expected.",
            "Free space, or set data_dir to another disk, and run again: earlier checkpoints are intact.",
        ) from err
    for replaced in whole:
        delete_checkpoint(replaced)
    return folder


def read_checkpoint(folder: Path, notes: Sequence[str] = ()) -> TrainingState:
    """Verify and read a generation.

    Args:
        folder: Folder of the generation.
        notes: Passed on in ``TrainingState.notes``.

    Raises:
        CheckpointError: If it is damaged or of a newer format.
    """
    from safetensors import SafetensorError

    verify_checkpoint(folder)
    try:
        return _read_state(folder, notes)
    except OSError as err:
        raise damaged_checkpoint(folder, f"it cannot be read: {err.strerror or err}") from err
    # The files are as they were written, so something else wrote them: any of these says that it is no state.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, SafetensorError, TypeError, ValueError) as err:
        raise damaged_checkpoint(folder, f"it holds no state of training ({type(err).__name__}: {err})"[:200]) from err


def _read_state(folder: Path, notes: Sequence[str]) -> TrainingState:
    try:
        return read_state(folder, notes=tuple(notes))
    except OSError:  # as in verifying: one failed call is common on Drive and means nothing
        return read_state(folder, notes=tuple(notes))


def state_size_bytes(state: TrainingState) -> int:
    """Return the size of the tensors of ``state``, tied ones counted once: about the size of a generation."""
    tensors: list[Tensor] = [*{id(tensor): tensor for tensor in state.model.values()}.values()]
    tensors += state.optimizer.tensors.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _write_generation(folder: Path, checkpoint: Checkpoint, logs: Sequence[Path], session: SessionMark) -> None:
    make_folder(folder)
    write_state(folder, checkpoint.state)
    for log in logs:
        write_text(folder / log.name, rows_up_to(log, checkpoint.step))
    values = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "reason": checkpoint.reason,
        "best_step": checkpoint.state.loop.best_step,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": dict(checkpoint.state.identity),
        "session": session.token,
        "fence": session.fence,
    }
    write_folder_manifest(folder, values)
