"""Copy files to Google Drive one by one, the manifest last, and read them back.

Drive acknowledges a write before it is durable, fails for minutes, has no hard links and may lose a rename; overwritten
and deleted files fill its trash.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import copy_file, sync, write_text
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE, manifest_text, verify_folder

__all__ = ["COLAB_MOUNT", "check_mounted", "copy_files", "problem_of"]

COLAB_MOUNT = Path("/content/drive")


def copy_files(files: Mapping[str, Path], target: Path, values: Mapping[str, Any]) -> None:
    """Copy ``files`` by name into the new folder ``target``, a manifest last, and read the copy back.

    Raises:
        OSError: If a file cannot be read or written.
        CheckpointError: If the copy differs from what was read.
    """
    text = manifest_text(files, values)
    for name, path in files.items():
        copy_file(path, target / name)
    write_text(target / MANIFEST_FILE, text)
    sync(target)
    verify_folder(target)


def check_mounted(folder: Path) -> None:
    """Refuse a folder of a Drive that is not mounted.

    Raises:
        OSError: If it is not mounted: the folder would be made on the machine's own disk, and vanish with it.
    """
    if COLAB_MOUNT in folder.parents and not os.path.ismount(COLAB_MOUNT):
        raise OSError(errno.ENOTCONN, f"Google Drive is not mounted at {COLAB_MOUNT}")


def problem_of(err: Exception) -> str:
    """Return the first sentence of an error."""
    if isinstance(err, CheckpointError):
        return err.problem
    if isinstance(err, OSError):
        return err.strerror or str(err)
    return f"{type(err).__name__}: {err}"
