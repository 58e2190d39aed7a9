"""The checkpoints of a run: their names, their order, and which one to resume from.

A checkpoint is a folder ``checkpoints/step-00000100-3f2a9c``: its step, and a token of the session that wrote it, so
that two sessions on one run overwrite nothing of each other. Of several checkpoints of one step the one with the
higher fence (the number of the session) counts, then the one with more leading zeros: a session that writes a step
again does so beside the older folder, under a name with one zero more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import copy_file, make_folder, sync
from transformer_foundry.core.files.folder_manifest import (
    MANIFEST_FILE,
    damaged_checkpoint,
    is_finished,
    read_manifest,
    verify_folder,
)
from transformer_foundry.core.files.plain_files import read_plain_text
from transformer_foundry.core.files.provenance import digest_of, run_origin
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER

__all__ = [
    "FORMAT_VERSION",
    "NewerFormatError",
    "best_checkpoint",
    "best_origin",
    "checkpoint_folders",
    "checkpoint_name",
    "checkpoint_origin",
    "copy_checkpoint",
    "find_checkpoint",
    "highest_fence",
    "is_checkpoint_name",
    "is_intact",
    "list_checkpoints",
    "newest_checkpoint",
    "revision_of",
    "step_of",
    "verify_checkpoint",
]

FORMAT_VERSION = 2
"""1: names without a token, manifests without fence and session. 2: with them."""


_NAME = re.compile(r"step-(\d{8,})(-[0-9a-f]{6})?")


class NewerFormatError(CheckpointError):
    """A checkpoint that a later version of this package wrote."""


def verify_checkpoint(folder: Path) -> None:
    """Check a checkpoint against its manifest: every file there, of the right size, with the right sha256.

    Raises:
        CheckpointError: If it is damaged, with the reason.
    """
    manifest = read_manifest(folder)
    kinds = {"format_version": int, "step": int, "best_step": int | None}
    if not all(isinstance(manifest.get(name), kind) for name, kind in kinds.items()):
        raise damaged_checkpoint(folder, f"{MANIFEST_FILE} is not that of a checkpoint")
    if manifest["format_version"] > FORMAT_VERSION:
        raise NewerFormatError(
            f"The checkpoint {folder.name} has format version {manifest['format_version']}.",
            f"This version of transformer-foundry reads versions up to {FORMAT_VERSION}.",
            "Install the newer transformer-foundry that wrote it, or start another run with run.name=NEW.",
        )
    if _NAME.fullmatch(folder.name) and manifest["step"] != step_of(folder):
        raise damaged_checkpoint(folder, f"its manifest is of step {manifest['step']}")
    verify_folder(folder)


def checkpoint_origin(folder: Path) -> dict[str, str | int]:
    """Return ``model``, ``data``, ``tokenizer``, ``weights`` and ``step`` of a checkpoint; its files are not verified.

    Where an average of the weights is kept, it is what is evaluated and published: ``weights`` then stands for both.

    Raises:
        CheckpointError: If its manifest is missing or damaged.
    """
    manifest = read_manifest(folder)
    digests = {name: file["sha256"] for name, file in manifest["files"].items()}
    weights = digests.get("weights.safetensors", "")
    if manifest.get("is_averaged"):
        weights = digest_of([weights, digests.get("optimizer.safetensors")])
    return {**run_origin(manifest.get("identity", {})), "weights": weights, "step": manifest["step"]}


def best_origin(run_folder: Path) -> dict[str, str | int]:
    """Return what the best checkpoint of a run is (see ``checkpoint_origin``), by manifests alone; empty without one.

    Nothing is verified, so that it is cheap: a report asks for it, training and deployment use ``best_checkpoint``.
    """
    for newest in reversed(list_checkpoints(run_folder)):
        try:
            best_step = read_manifest(newest).get("best_step")
            best = None if best_step is None else find_checkpoint(run_folder, best_step)
            return checkpoint_origin(best or newest)
        except (CheckpointError, KeyError):
            continue
    return {}


def copy_checkpoint(
    source: Path, target: Path, check: Callable[[], None] = lambda: None, root: Path | None = None
) -> None:
    """Copy a checkpoint, its manifest last, and verify the copy.

    Args:
        source: Folder of the checkpoint.
        target: Folder of the copy.
        check: Called before each file, and at the end; raises an ``OSError`` if the place is not what it was.
        root: A folder above ``target`` that is never made.

    Raises:
        OSError: If a file cannot be read or written.
        CheckpointError: If the copy is not what the manifest says.
    """
    # Without a manifest the target counts as unfinished while its files are being replaced.
    check()
    (target / MANIFEST_FILE).unlink(missing_ok=True)
    make_folder(target, root)
    for name in read_manifest(source)["files"]:
        check()
        copy_file(source / name, target / name)
    sync(target)
    check()
    copy_file(source / MANIFEST_FILE, target / MANIFEST_FILE)
    sync(target)
    verify_checkpoint(target)
    check()


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Return the folders of the finished checkpoints, oldest first; they are not verified."""
    return [folder for folder in checkpoint_folders(run_folder) if is_finished(folder)]


def find_checkpoint(run_folder: Path, step: int) -> Path | None:
    """Return the folder of the finished checkpoint of ``step``, or None."""
    return next((folder for folder in reversed(checkpoint_folders(run_folder, step)) if is_finished(folder)), None)


def newest_checkpoint(run_folder: Path, notes: list[str] | None = None) -> Path | None:
    """Return the newest checkpoint that verifies, or None if none was ever finished.

    Args:
        run_folder: Folder of the run.
        notes: Receives a sentence for each checkpoint that was skipped.

    Raises:
        CheckpointError: If there are checkpoints but all are damaged (only the user may decide to start again), or the
            newest was written by a later version of the format.
    """
    notes = [] if notes is None else notes
    skipped = []
    for folder in reversed(checkpoint_folders(run_folder)):
        if not is_finished(folder):
            notes.append(f"{folder.name} was never finished and is skipped.")
            continue
        try:
            verify_checkpoint(folder)
        except NewerFormatError:
            raise
        except CheckpointError as err:
            skipped.append(folder)
            notes.append(f"{err.problem} It is skipped and kept.")
            continue
        return folder
    if skipped:
        raise CheckpointError(
            f"All checkpoints in {run_folder / CHECKPOINTS_FOLDER} are damaged: "
            f"{', '.join(folder.name for folder in skipped)}. {notes[0]}",
            "At least one intact checkpoint was expected.",
            f"Restore the folder from a copy, or delete {run_folder / CHECKPOINTS_FOLDER} to start again from step 0.",
        )
    return None


def best_checkpoint(run_folder: Path, notes: list[str] | None = None) -> Path | None:
    """Return the checkpoint with the lowest validation loss, or the newest one where there was no evaluation.

    Args:
        run_folder: Folder of the run.
        notes: Receives a sentence for each checkpoint that was skipped.
    """
    notes = [] if notes is None else notes
    newest = newest_checkpoint(run_folder, notes)
    if newest is None:
        return None
    best_step = read_manifest(newest)["best_step"]
    if best_step is None:
        return newest
    best = find_checkpoint(run_folder, best_step) or newest.parent / checkpoint_name(best_step)
    try:
        verify_checkpoint(best)
    except CheckpointError as err:
        notes.append(f"{err.problem} The newest checkpoint takes the place of the best one.")
        return newest
    return best


def highest_fence(run_folder: Path) -> int:
    """Return the highest fence of the checkpoints; 0 if there is none."""
    return max((_fence_of(folder) for folder in checkpoint_folders(run_folder)), default=0)


def checkpoint_folders(run_folder: Path, step: int | None = None) -> list[Path]:
    """Return the folders of checkpoints (of ``step``), finished or not, oldest first."""
    parent = run_folder / CHECKPOINTS_FOLDER
    found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    wanted = [folder for folder in found if step is None or step_of(folder) == step]
    return sorted(wanted, key=lambda folder: (step_of(folder), _fence_of(folder), revision_of(folder), folder.name))


def is_intact(folder: Path) -> bool:
    """Return whether a checkpoint verifies."""
    try:
        verify_checkpoint(folder)
    except CheckpointError:
        return False
    return True


def checkpoint_name(step: int, token: str = "", revision: int = 0) -> str:
    """Return the name of a checkpoint's folder.

    Example:
        >>> checkpoint_name(100, "3f2a9c"), checkpoint_name(100, revision=1)
        ('step-00000100-3f2a9c', 'step-000000100')
    """
    # Leading zeros distinguish revisions: the number after "step-" is the step in any case.
    return f"step-{'0' * revision}{step:08d}{'-' if token else ''}{token}"


def is_checkpoint_name(name: str) -> bool:
    """Return whether ``name`` is that of a checkpoint's folder.

    Example:
        >>> is_checkpoint_name("step-00000100-3f2a9c"), is_checkpoint_name("best-model")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def step_of(folder: Path) -> int:
    """Return the step in the name of a checkpoint's folder."""
    return int(_parts(folder)[0])


def revision_of(folder: Path) -> int:
    """Return how many checkpoints of its step and session came before."""
    return len(_parts(folder)[0]) - len(f"{step_of(folder):08d}")


def _parts(folder: Path) -> tuple[str, str]:
    match = _NAME.fullmatch(folder.name)
    assert match is not None, folder
    return match.group(1), match.group(2) or ""


def _fence_of(folder: Path) -> int:
    try:
        return int(json.loads(read_plain_text(folder / MANIFEST_FILE)).get("fence", 0))
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0
