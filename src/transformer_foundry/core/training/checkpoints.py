"""Checkpoint generations on disk: what survives a crash at any moment, and which one to trust.

A run folder holds ``checkpoints/step-00000100/`` with ``weights.safetensors``, ``optimizer.safetensors``,
``state.json``, the run's ``metrics.jsonl`` and ``samples.jsonl`` up to that step, and ``manifest.json``, which is
written last and names size and sha256 of every other file. A folder without a manifest was never finished. Nothing
depends on renaming: Drive's file system acknowledges a rename before it is durable. So a generation that replaces one
of its own step is written beside it, under a name with one more leading zero (``step-000000100``), and only then is
the older one deleted; while both are there the longer name counts.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from transformer_foundry.core.errors import CheckpointError
from transformer_foundry.core.training.durable import make_folder, sha256_of, sync, write_text
from transformer_foundry.core.training.metrics_log import rows_up_to
from transformer_foundry.core.training.records import Checkpoint
from transformer_foundry.core.training.state import TrainingState
from transformer_foundry.core.training.state_files import read_counters, read_state, write_state

__all__ = [
    "FORMAT_VERSION",
    "best_checkpoint",
    "find_checkpoint",
    "list_checkpoints",
    "newest_checkpoint",
    "prune_checkpoints",
    "read_checkpoint",
    "set_aside_after",
    "verify_checkpoint",
    "write_checkpoint",
]

FORMAT_VERSION = 1
CHECKPOINTS_FOLDER = "checkpoints"
MANIFEST_FILE = "manifest.json"

_NAME = re.compile(r"step-(\d{8,})")


def write_checkpoint(run_folder: Path, checkpoint: Checkpoint, logs: Sequence[Path] = ()) -> Path:
    """Write a generation; when this returns, it survives a power cut.

    A generation of the same step that is whole is left as it is if its counters are those of the checkpoint. If not
    (an interrupt in an evaluation saves the step before its result is known), it is replaced.

    Args:
        run_folder: Folder of the run.
        checkpoint: What ``fit`` yielded.
        logs: Files of JSON lines with ``step``; their lines up to the checkpoint's step become part of it.

    Returns:
        The folder of the generation.

    Raises:
        CheckpointError: If it cannot be written, for example because the disk is full; earlier generations are intact.
    """
    earlier = _generations(run_folder, checkpoint.step)
    whole = [folder for folder in earlier if _is_whole(folder)]
    if whole and read_counters(whole[-1]) == checkpoint.state.counters:
        return whole[-1]
    for damaged in (folder for folder in earlier if folder not in whole):
        _set_aside(damaged)
    revision = 1 + _revision_of(whole[-1]) if whole else 0
    folder = run_folder / CHECKPOINTS_FOLDER / _name_of(checkpoint.step, revision)
    try:
        _write_generation(folder, checkpoint, logs)
    except OSError as err:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {checkpoint.step} cannot be written to {folder}: {err.strerror or err}.",
            f"About {_size_mib(checkpoint.state):.0f} MiB of free space in a folder that can be written were expected.",
            "Free space, or set data_dir to another disk, and run again: earlier checkpoints are intact.",
        ) from err
    for replaced in whole:
        _delete(replaced)
    return folder


def verify_checkpoint(folder: Path) -> None:
    """Check a generation against its manifest: every file there, of the right size, with the right sha256.

    Raises:
        CheckpointError: Naming what is wrong with it.
    """
    for name, expected in _read_manifest(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise _damaged(folder, f"{name} is missing")
        size = path.stat().st_size
        if size != expected["size"]:
            raise _damaged(folder, f"{name} has {size} bytes instead of {expected['size']}")
        if sha256_of(path) != expected["sha256"]:
            raise _damaged(folder, f"the content of {name} has changed since it was written")


def read_checkpoint(folder: Path, notes: Sequence[str] = ()) -> TrainingState:
    """Verify and read a generation.

    Args:
        folder: Folder of the generation.
        notes: Passed on in ``TrainingState.notes``.

    Raises:
        CheckpointError: If it is damaged or of a newer format.
    """
    verify_checkpoint(folder)
    return read_state(folder, notes=tuple(notes))


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Return the folders of the generations that were finished, oldest first; they are not verified."""
    return [folder for folder in _generations(run_folder) if (folder / MANIFEST_FILE).is_file()]


def find_checkpoint(run_folder: Path, step: int) -> Path | None:
    """Return the folder of the finished generation of ``step``, or None."""
    return next((folder for folder in reversed(_generations(run_folder, step)) if _is_finished(folder)), None)


def newest_checkpoint(run_folder: Path, notes: list[str] | None = None) -> Path | None:
    """Return the newest generation that verifies, or None if none was ever finished.

    Args:
        run_folder: Folder of the run.
        notes: Receives a sentence for each generation that was skipped.

    Raises:
        CheckpointError: If there are generations but all are damaged (starting again from nothing is not for us to
            decide), or the newest was written by a later version of the format.
    """
    notes = [] if notes is None else notes
    damaged = []
    for folder in reversed(_generations(run_folder)):
        if not _is_finished(folder):
            notes.append(f"{folder.name} was never finished and is skipped.")
            continue
        try:
            verify_checkpoint(folder)
        except _NewerFormatError:
            raise
        except CheckpointError as err:
            damaged.append(folder)
            notes.append(f"{err.problem} It is skipped and kept.")
            continue
        return folder
    if damaged:
        raise CheckpointError(
            f"All checkpoints in {run_folder / CHECKPOINTS_FOLDER} are damaged: "
            f"{', '.join(folder.name for folder in damaged)}. {notes[0]}",
            "At least one intact checkpoint was expected.",
            f"Restore the folder from a copy, or delete {run_folder / CHECKPOINTS_FOLDER} to start again from step 0.",
        )
    return None


def best_checkpoint(run_folder: Path, notes: list[str] | None = None) -> Path | None:
    """Return the generation with the lowest validation loss, or the newest one where there was no evaluation.

    Args:
        run_folder: Folder of the run.
        notes: Receives a sentence for each generation that was skipped.
    """
    notes = [] if notes is None else notes
    newest = newest_checkpoint(run_folder, notes)
    if newest is None:
        return None
    best_step = _read_manifest(newest)["best_step"]
    if best_step is None:
        return newest
    best = find_checkpoint(run_folder, best_step) or newest.parent / _name_of(best_step)
    try:
        verify_checkpoint(best)
    except CheckpointError as err:
        notes.append(f"{err.problem} The newest checkpoint takes the place of the best one.")
        return newest
    return best


def prune_checkpoints(run_folder: Path, keep_last: int, best_step: int | None = None) -> list[Path]:
    """Delete all finished generations but those of the newest ``keep_last`` steps and of the best; return them."""
    generations = list_checkpoints(run_folder)
    by_step = {_step_of(folder): folder for folder in generations}  # of a step, the one that replaced the others
    kept = {folder for step, folder in by_step.items() if step in {*list(by_step)[-keep_last:], best_step}}
    deleted = [folder for folder in generations if folder not in kept]
    for folder in deleted:
        _delete(folder)
    return deleted


def set_aside_after(run_folder: Path, step: int) -> list[Path]:
    """Move away what a run that goes on from ``step`` will write again; return where it went.

    Finished generations of later steps (damaged, or of another attempt) are kept under another name; unfinished ones
    hold nothing of use and are deleted.
    """
    moved = []
    for folder in _generations(run_folder):
        if not _is_finished(folder):
            _delete(folder)
        elif _step_of(folder) > step:
            moved.append(_set_aside(folder))
    return [path for path in moved if path is not None]


class _NewerFormatError(CheckpointError):
    """A generation that a later version of this package wrote."""


def _write_generation(folder: Path, checkpoint: Checkpoint, logs: Sequence[Path]) -> None:
    make_folder(folder)
    write_state(folder, checkpoint.state)
    for log in logs:
        write_text(folder / log.name, rows_up_to(log, checkpoint.step))
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST_FILE)
    manifest = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "reason": checkpoint.reason,
        "best_step": checkpoint.state.counters.best_step,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": dict(checkpoint.state.identity),
        "files": {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in paths},
    }
    # The names must be durable before the manifest says that they are.
    sync(folder)
    write_text(folder / MANIFEST_FILE, _sealed(manifest))
    sync(folder)


def _sealed(manifest: dict[str, Any]) -> str:
    """One line of JSON that carries its own digest; a torn write lacks the end of the line."""
    return json.dumps({**manifest, "seal": _seal(manifest)}, sort_keys=True) + "\n"


def _seal(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise _damaged(folder, f"{MANIFEST_FILE} is missing") from err
    except (OSError, ValueError) as err:
        raise _damaged(folder, f"{MANIFEST_FILE} cannot be read") from err
    if not isinstance(manifest, dict):
        raise _damaged(folder, f"{MANIFEST_FILE} is not a manifest")
    seal = manifest.pop("seal", None)
    if seal != _seal(manifest):
        raise _damaged(folder, f"{MANIFEST_FILE} has changed since it was written")
    if manifest["step"] != _step_of(folder):
        raise _damaged(folder, f"its manifest is of step {manifest['step']}")
    if manifest["format_version"] > FORMAT_VERSION:
        raise _NewerFormatError(
            f"The checkpoint {folder.name} has format version {manifest['format_version']}.",
            f"This version of transformer-foundry reads versions up to {FORMAT_VERSION}.",
            "Install the newer transformer-foundry that wrote it, or start another run with run.name=NEW.",
        )
    return manifest


def _is_finished(folder: Path) -> bool:
    """Whether the writing of a generation came to its end: the manifest's line is complete."""
    try:
        return (folder / MANIFEST_FILE).read_bytes().endswith(b"\n")
    except OSError:
        return False


def _is_whole(folder: Path) -> bool:
    if not _is_finished(folder):
        return False
    try:
        verify_checkpoint(folder)
    except CheckpointError:
        return False
    return True


def _damaged(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {folder.name} is damaged: {what}.",
        "A folder exactly as it was written was expected.",
        "Restore it from a copy, or use another checkpoint of the run.",
    )


def _generations(run_folder: Path, step: int | None = None) -> list[Path]:
    """Folders of generations (of ``step``), finished or not, oldest first."""
    parent = run_folder / CHECKPOINTS_FOLDER
    found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    wanted = [folder for folder in found if step is None or _step_of(folder) == step]
    return sorted(wanted, key=lambda folder: (_step_of(folder), _revision_of(folder)))


def _name_of(step: int, revision: int = 0) -> str:
    # Leading zeros tell revisions apart: who reads the number after "step-" gets the step in any case.
    return f"step-{'0' * revision}{step:08d}"


def _revision_of(folder: Path) -> int:
    return len(folder.name) - len(_name_of(_step_of(folder)))


def _step_of(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    assert match is not None, folder
    return int(match.group(1))


def _set_aside(folder: Path) -> Path | None:
    """Give ``folder`` a name under which it is never read again; None if there is nothing to keep."""
    if not _is_finished(folder):
        _delete(folder)
        return None
    number = 1
    while (target := folder.with_name(f"aside-{number}-{folder.name}")).exists():
        number += 1
    folder.rename(target)
    sync(folder.parent)
    return target


def _delete(folder: Path) -> None:
    # Without its manifest a half-deleted generation counts as unfinished, not as damaged.
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _size_mib(state: TrainingState) -> float:
    tensors: list[Tensor] = [*{id(tensor): tensor for tensor in state.model.values()}.values()]
    tensors += state.optimizer.tensors.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20
