"""Processes: the rank of this one under torchrun, its temporary folders, and whether another one is running."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

__all__ = [
    "count_processes",
    "is_main_process",
    "is_only_process",
    "is_running",
    "make_build_folder",
    "remove_build_folder",
]

_built: set[Path] = set()
"""Temporary folders that this process has made and not removed yet."""


def is_main_process() -> bool:
    """Return whether this process writes and reports: the only one, or rank 0 of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def is_only_process() -> bool:
    """Return whether no other process trains the same model."""
    return count_processes() == 1


def count_processes() -> int:
    """Return how many processes train the same model: those that torchrun started, or one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_running(pid: int) -> bool:
    """Return whether a process with this id runs on this machine, also one of another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def make_build_folder(kind: str) -> Path:
    """Make a temporary folder named after this process, and remove those of processes that no longer run.

    Args:
        kind: What is built in it; its name starts with that.
    """
    root = Path(tempfile.gettempdir())
    for entry in root.glob(f"{kind}-*"):
        owner = re.fullmatch(rf"{kind}-(\d+)-.*", entry.name)
        if owner and not is_running(int(owner.group(1))):
            shutil.rmtree(entry, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-{os.getpid()}-"))
    _built.add(folder.resolve())
    return folder


def remove_build_folder(folder: Path) -> None:
    """Remove a folder that ``make_build_folder`` has made in this process; any other one stays: it is someone's data.

    Example:
        >>> remove_build_folder(Path.home())
    """
    if folder.resolve() in _built:
        _built.discard(folder.resolve())
        shutil.rmtree(folder, ignore_errors=True)
