"""The manifest and the logs of a run: sealed, copied into each checkpoint, and restored from there.

A run that has lost its manifest would be shown, packaged and compared as one of unknown origin, and its metrics drawn
as none. Each checkpoint holds both as of its step.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import replace_file
from transformer_foundry.core.files.folder_manifest import read_manifest
from transformer_foundry.core.files.plain_files import read_plain, read_plain_text
from transformer_foundry.core.files.provenance import digest_of
from transformer_foundry.core.files.run_paths import LOG_FILES, RUN_MANIFEST_FILE
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints

__all__ = ["RUN_COPY_FILE", "read_run_record", "restore_run_files", "result_of", "write_run_record"]

_log = logging.getLogger(__name__)

RUN_COPY_FILE = "run.json"
"""The run's manifest in a checkpoint, whose own ``manifest.json`` lists it."""

RESULT_FILES = ("weights.safetensors", "optimizer.safetensors")
"""Files of the last checkpoint whose digests show whether another run gave the same result."""

_SEAL = "seal"


def write_run_record(run_folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a run with a digest of its content.

    Raises:
        OSError: If it cannot be written.
    """
    content = {name: value for name, value in manifest.items() if name != _SEAL}
    replace_file(run_folder / RUN_MANIFEST_FILE, json.dumps({**content, _SEAL: digest_of(content)}, indent=2) + "\n")


def read_run_record(run_folder: Path) -> dict[str, Any]:
    """Return the manifest of a run; one that is missing or damaged as its newest checkpoint has it.

    Returns:
        An empty mapping if there is neither.
    """
    found = _read_sealed(run_folder / RUN_MANIFEST_FILE)
    return next(_copies(run_folder), (Path(), {}))[1] if found is None else found


def restore_run_files(run_folder: Path) -> None:
    """Restore manifest and logs that are missing or damaged from the newest checkpoint; each with a warning.

    A damaged file is kept under another name.

    Raises:
        OSError: If a file cannot be written.
    """
    path = run_folder / RUN_MANIFEST_FILE
    if _read_sealed(path) is None:
        copy = next(_copies(run_folder), None)
        if copy is not None:
            what = _set_aside(path)
            write_run_record(run_folder, copy[1])
            _log.warning("%s %s: it is restored from %s.", path, what, copy[0].name)
        elif path.exists() or list_checkpoints(run_folder):
            what = "is damaged" if path.exists() else "is missing"
            _log.warning("%s %s: the run continues without the list of its earlier sessions.", path, what)
    checkpoints = list_checkpoints(run_folder)
    for name in LOG_FILES if checkpoints else ():
        _restore_log(run_folder / name, checkpoints[-1])


def result_of(checkpoint: Path) -> dict[str, Any]:
    """Return what the manifest of a run says of the checkpoint that it ended with: step and digests.

    Raises:
        CheckpointError: If the manifest of the checkpoint is damaged.
    """
    manifest = read_manifest(checkpoint)
    return {"step": manifest["step"], "sha256": {name: manifest["files"][name]["sha256"] for name in RESULT_FILES}}


def _restore_log(path: Path, checkpoint: Path) -> None:
    """Restore rows that the newest checkpoint has and the log has not; later rows stay."""
    kept = _verified(checkpoint, path.name)
    found = read_plain(path) if path.is_file() else b""
    if not kept or found.startswith(kept):
        return
    if not kept.startswith(found):  # that of Drive is of an earlier step: it is no damage
        _log.warning("%s %s: it is restored from %s.", path, _set_aside(path), checkpoint.name)
    replace_file(path, kept)


def _set_aside(path: Path) -> str:
    if not path.exists():
        return "is missing"
    free = (path.with_name(f"{path.stem}-aside-{number}{path.suffix}") for number in range(1, 10**6))
    aside = next(name for name in free if not name.exists())
    path.replace(aside)
    return f"is damaged and kept as {aside.name}"


def _read_sealed(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(read_plain_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    seal = values.pop(_SEAL, None)
    is_whole = seal in (None, digest_of(values))  # earlier versions have none
    return values if is_whole and _is_manifest(values) else None


def _is_manifest(values: Mapping[str, Any]) -> bool:
    """Return whether the parts of a manifest are of their types: the folder of a run may come from someone else."""
    parameters, sessions = values.get("parameters", {}), values.get("sessions", [])
    if not (isinstance(parameters, Mapping) and isinstance(sessions, list)):
        return False
    parts = [values.get(name, {}) for name in ("environment", "identity", "init_from", "model", "seeds")]
    parts += [parameters.get(name, {}) for name in ("data", "model", "training")]
    parts += [values.get("result") or {}, *sessions]
    return all(isinstance(part, Mapping) for part in parts) and isinstance(values.get("total_steps"), int | None)


def _copies(run_folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the manifest of the run as the checkpoints have it, the newest first."""
    for checkpoint in reversed(list_checkpoints(run_folder)):
        content = _verified(checkpoint, RUN_COPY_FILE)
        if content is not None:
            manifest = json.loads(content)
            if not (isinstance(manifest, dict) and _is_manifest(manifest)):
                continue
            manifest.pop(_SEAL, None)
            if read_manifest(checkpoint).get("reason") == "end":
                manifest["result"] = result_of(checkpoint)
            yield checkpoint, manifest


def _verified(checkpoint: Path, name: str) -> bytes | None:
    try:
        expected = read_manifest(checkpoint)["files"].get(name, {}).get("sha256")
        content = read_plain(checkpoint / name)
    except (OSError, CheckpointError):
        return None
    return content if hashlib.sha256(content).hexdigest() == expected else None
