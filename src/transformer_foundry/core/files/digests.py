"""Digests of files that are read again and again: computed once a process, while the files stay as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from transformer_foundry.core.files.atomic import sha256_of

__all__ = ["FileState", "sha256_once", "state_of"]

FileState: TypeAlias = tuple[str, int, int, int, int]
"""Path, inode, bytes, and the times of the last change of content and of the inode, in nanoseconds."""

_known: dict[FileState, str] = {}


def sha256_once(path: Path) -> str:
    """Return the sha256 of a file; it is read at the first call, and again if it has changed since.

    A command opens the same tokens in eight nodes. Reading them costs about a second for 400 MB on one core.

    Raises:
        OSError: If it cannot be read.
    """
    state = state_of(path)
    if state not in _known:
        _known[state] = sha256_of(path)
    return _known[state]


def state_of(path: Path) -> FileState:
    """Return what changes when a file does.

    Raises:
        OSError: If there is none.
    """
    found = path.stat()
    return os.path.abspath(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
