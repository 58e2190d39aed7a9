"""A lock on a folder, held by one process."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TextIO

from transformer_foundry.core.base.errors import CheckpointError

__all__ = ["RunLock"]


class RunLock:
    """A lock on the folder of a run, which the system takes back when the process ends, however that happens.

    Args:
        run_folder: Folder of the run.
    """

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / "session.lock"
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            CheckpointError: If another process holds it.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise _held(f"{self._path.parent} is being trained by another process: {holder}.") from err
        except OSError:  # a file system without locks
            file.close()
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}, since {_now()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _held(problem: str) -> CheckpointError:
    return CheckpointError(
        problem,
        "One session at a time trains a run.",
        "Stop that one (it saves a checkpoint and frees the run), or train another run with run.name=NEW.",
    )


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
