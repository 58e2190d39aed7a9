"""Questions about processes: the rank of this one under torchrun, and whether another one is running."""

from __future__ import annotations

import os

__all__ = ["is_main_process", "is_only_process", "is_running"]


def is_main_process() -> bool:
    """Return whether this process writes and reports: the only one, or rank 0 of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def is_only_process() -> bool:
    """Return whether no other process trains the same model."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def is_running(pid: int) -> bool:
    """Return whether a process with this id runs on this machine, also one of another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
