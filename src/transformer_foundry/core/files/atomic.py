"""Files that are on the disk when the call returns, and what proves that they are whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["copy_file", "make_folder", "replace_text", "sha256_of", "sync", "write_json", "write_text"]


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and the folders above it, durably."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, durably."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, durably; a kill leaves the old text or the new one, never a part of either."""
    beside = path.with_name(f"{path.name}.new")
    write_text(beside, text)
    os.replace(beside, path)
    sync(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file, durably."""
    make_folder(target.parent)
    shutil.copyfile(source, target)
    sync(target)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON: a number that is infinite or none is a mistake."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
