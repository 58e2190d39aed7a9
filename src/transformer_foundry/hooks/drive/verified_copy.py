"""Copy files to Google Drive one by one, the manifest last, and read them back.

Drive acknowledges a write before it is durable, fails for minutes, has no hard links and may lose a rename; overwritten
and deleted files fill its trash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.files.atomic import copy_file, sync, write_text
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, manifest_text, verify_folder

__all__ = ["copy_files", "problem_of"]


def copy_files(
    files: Mapping[str, Path],
    target: Path,
    values: Mapping[str, Any],
    check: Callable[[], None] | None = None,
    root: Path | None = None,
) -> None:
    """Copy ``files`` by name into the new folder ``target``, a manifest last, and read the copy back.

    Args:
        files: Where each file is, by its name in the copy.
        target: The folder of the copy.
        values: More for the manifest.
        check: Called before each file, and at the end; raises an ``OSError`` if the place is not what it was.
        root: A folder above ``target`` that is never made.

    Raises:
        OSError: If a file cannot be read or written.
        CheckpointError: If the copy differs from what was read.
    """
    text = manifest_text(files, values)
    check = check or _no_check
    for name, path in files.items():
        check()
        copy_file(path, target / name, root)
    check()
    write_text(target / MANIFEST_FILE, text)
    sync(target)
    verify_folder(target)
    check()


def problem_of(err: Exception) -> str:
    """Return the first sentence of an error."""
    if isinstance(err, FoundryError):
        return err.problem
    if isinstance(err, OSError):
        return err.strerror or str(err)
    return f"{type(err).__name__}: {err}"


def _no_check() -> None:
    """Check nothing."""
