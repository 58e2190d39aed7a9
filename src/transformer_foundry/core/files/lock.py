"""Lock files and run folders; the system releases a lock when its process ends, however that happens."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import IO, Any, TextIO

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.plain_files import plain_opener

__all__ = ["RunLock", "held_error", "is_locked", "lock_file", "utc_now"]


_LOCK_FILE = "session.lock"


def lock_file(file: IO[Any], *, wait: bool) -> bool:
    """Lock an open file until it is closed; return False where the system or the file system has no locks.

    Args:
        file: The file, open for writing.
        wait: Whether to wait for another process that holds the lock.

    Raises:
        BlockingIOError: If another process holds it and ``wait`` is False.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except (ImportError, OSError):  # Windows; a file system without locks
        return False
    return True


class RunLock:
    """A lock on the folder of a run.

    Args:
        run_folder: Folder of the run.
    """

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / _LOCK_FILE
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            CheckpointError: If another process holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self._path, "a+", encoding="utf-8", opener=plain_opener)  # noqa: SIM115 - open while it is held
        try:
            is_locked = lock_file(file, wait=False)
        except BlockingIOError as err:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise held_error(f"{self._path.parent} is being trained by another process: {holder}.") from err
        if not is_locked:
            file.close()
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}, since {utc_now()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(run_folder: Path) -> bool:
    """Return whether a process, this one included, holds the lock of a run; nothing is written."""
    try:
        with open(run_folder / _LOCK_FILE, encoding="utf-8", opener=plain_opener) as file:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # no such file; Windows; a file system without locks
        return False
    return False


def held_error(problem: str) -> CheckpointError:
    """Return the error of a run that another session trains."""
    return CheckpointError(
        problem,
        "Only one session at a time may train a run.",
        "Stop that session (it saves a checkpoint and releases the run), or train another run with run.name=NEW.",
    )


def utc_now() -> str:
    """Return the time as messages show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
