"""Write and verify the manifest of a folder: size and digest of every file, written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import replace_file, sha256_of, sync
from transformer_foundry.core.files.plain_files import read_plain_text

__all__ = [
    "MANIFEST_FILE",
    "damaged_checkpoint",
    "has_sizes",
    "is_finished",
    "manifest_text",
    "read_manifest",
    "verify_folder",
    "write_folder_manifest",
]

MANIFEST_FILE = "manifest.json"


def write_folder_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the manifest of ``folder``: ``values``, and size and sha256 of every file in it.

    After this call the folder survives a power cut. The files must already be durable; a kill leaves the folder with
    the complete manifest or with none.
    """
    files = {path.name: path for path in folder.iterdir() if not path.name.startswith(MANIFEST_FILE)}
    text = manifest_text(files, values)
    # The names must be durable before the manifest lists them.
    sync(folder)
    replace_file(folder / MANIFEST_FILE, text)


def manifest_text(files: Mapping[str, Path], values: Mapping[str, Any]) -> str:
    """Return the manifest of ``files``, by their names in the folder, as one line with its own digest."""
    digests = {name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for name, path in sorted(files.items())}
    manifest = {**values, "files": digests}
    return json.dumps({**manifest, "seal": _seal(manifest)}, sort_keys=True) + "\n"


def is_finished(folder: Path) -> bool:
    """Return whether there is a manifest, even a damaged one: without it the folder was never finished."""
    return os.path.lexists(folder / MANIFEST_FILE)


def has_sizes(folder: Path) -> bool:
    """Return whether the manifest can be read and every file has its size: a quick look, which reads no file."""
    try:
        files = read_manifest(folder)["files"]
        return all((folder / name).stat().st_size == file["size"] for name, file in files.items())
    except (OSError, CheckpointError):
        return False


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of ``folder``.

    Raises:
        CheckpointError: If it is missing or has changed since it was written.
    """
    try:
        manifest = json.loads(_read(folder / MANIFEST_FILE))
    except FileNotFoundError as err:
        raise damaged_checkpoint(folder, f"{MANIFEST_FILE} is missing") from err
    except (OSError, ValueError, RecursionError) as err:
        raise damaged_checkpoint(folder, f"{MANIFEST_FILE} cannot be read") from err
    if not (isinstance(manifest, dict) and _is_listing(manifest.get("files"))):
        raise damaged_checkpoint(folder, f"{MANIFEST_FILE} is not a manifest")
    seal = manifest.pop("seal", None)
    if seal != _seal(manifest):
        raise damaged_checkpoint(folder, f"{MANIFEST_FILE} has changed since it was written")
    return manifest


def verify_folder(folder: Path) -> dict[str, Any]:
    """Check that every file of the manifest is there, of the right size and sha256, and return the manifest.

    Raises:
        CheckpointError: If a file is missing, damaged or unreadable.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise damaged_checkpoint(folder, f"{name} is missing")
        size = path.stat().st_size
        if size != expected["size"]:
            raise damaged_checkpoint(folder, f"{name} has {size} bytes instead of {expected['size']}")
        if _digest(folder, name) != expected["sha256"]:
            raise damaged_checkpoint(folder, f"the content of {name} has changed since it was written")
    return manifest


def damaged_checkpoint(folder: Path, what: str) -> CheckpointError:
    """Return the error for a damaged ``folder``."""
    return CheckpointError(
        f"The checkpoint {folder.name} is damaged: {what}.",
        "A folder exactly as it was written was expected.",
        "Restore it from a copy, or use another checkpoint of the run.",
    )


def _digest(folder: Path, name: str) -> str:
    # A single failed read is common on Drive; skipping a checkpoint for it would lose hours.
    for attempt in ("first", "second"):
        try:
            return sha256_of(folder / name)
        except OSError as err:
            if attempt == "second":
                raise damaged_checkpoint(folder, f"{name} cannot be read: {err.strerror or err}") from err
    raise AssertionError("unreachable")


def _read(path: Path) -> str:
    try:
        return read_plain_text(path)
    except FileNotFoundError:
        raise
    except OSError:
        return read_plain_text(path)


def _is_listing(files: Any) -> bool:
    """Return whether these are sizes and digests by names inside the folder: the seal is no signature."""
    return isinstance(files, dict) and all(
        isinstance(file, dict)
        and isinstance(file.get("size"), int)
        and isinstance(file.get("sha256"), str)
        and not PurePosixPath(name).is_absolute()
        and ".." not in PurePosixPath(name).parts
        and "\0" not in name
        for name, file in files.items()
    )


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
