"""A lease in the copy of a run, by which other machines see which session trains it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.files.atomic import write_text
from transformer_foundry.core.files.lock import held_error, utc_now
from transformer_foundry.core.files.plain_files import read_plain_text
from transformer_foundry.core.system.process import is_running

__all__ = ["Lease"]

_log = logging.getLogger(__name__)

HEARTBEAT_S = 60.0
"""Between two heartbeats."""

DEAD_AFTER_S = 180.0
"""A holder without a heartbeat for this long is dead."""

POLL_S = 5.0

_MOST_PROCESSES = 2**31
_LATEST_S = 1e12
_LONGEST_NAME = 200


class Lease:
    """Marks in the copy of a run which session trains it, and detects when another one has taken over.

    Args:
        copy_folder: Folder of the copy.
        check: Called before the lease is written; raises an ``OSError`` if the place is not what it was.
        clock: Seconds since the epoch.
        sleep: Sleeps for a number of seconds.
    """

    def __init__(
        self,
        copy_folder: Path,
        *,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = copy_folder / "lease.json"
        self._check, self._clock, self._sleep = check, clock, sleep
        self._token = uuid.uuid4().hex
        self._heartbeats = 0
        self._renewed_at = 0.0
        self._since = utc_now()
        self.is_held = False
        self.is_lost = False

    def acquire(self) -> str | None:
        """Take the lease; wait for another holder's heartbeat to see whether it is dead.

        Returns:
            A sentence that names the holder that it was taken over from, or None.

        Raises:
            OSError: If the lease cannot be written.
            CheckpointError: If another session is alive.
        """
        holder = self._read()
        taken_over = None
        if holder and not holder.get("released"):
            if not self._is_dead(holder):
                self._watch(holder)
            taken_over = f"Took the run over from {_name(holder)}, which has stopped."
        self.is_held = True
        self._write()
        return taken_over

    def renew(self) -> bool:
        """Write a heartbeat if it is due, and return whether this session holds the lease.

        A lease that could not be taken at the start, because of an outage of Drive, is taken now.

        Raises:
            OSError: If the lease cannot be read or written.
            CheckpointError: If another session is alive.
        """
        if self.is_lost:
            return False
        if not self.is_held:
            self.acquire()
        if self._clock() - self._renewed_at < HEARTBEAT_S:
            return True
        holder = self._read()
        if holder and holder.get("token") != self._token:
            self.is_held, self.is_lost = False, True
            _log.warning(
                "%s trains this run now: nothing more is copied to %s. New checkpoints stay on this machine.",
                _name(holder),
                self._path.parent,
            )
            return False
        self._write()
        return True

    def release(self) -> None:
        """Free the run for the next session."""
        if self.is_held:
            self.is_held = False
            with contextlib.suppress(OSError):
                self._write(released=True)

    def _watch(self, holder: dict[str, Any]) -> None:
        # The clock of the other machine may be hours ahead.
        silence_s = max(0.0, self._clock() - holder["at"])
        left_s = max(POLL_S, DEAD_AFTER_S - silence_s)
        _log.info(
            "%s may still train this run (last heartbeat %.0f s ago): waiting up to %.0f s to find out ...",
            _name(holder),
            silence_s,
            left_s,
        )
        end = self._clock() + left_s
        while self._clock() < end:
            self._sleep(POLL_S)
            seen = self._read()
            if not seen or seen.get("released"):
                return
            if (seen.get("token"), seen.get("beats")) != (holder.get("token"), holder.get("beats")):
                raise held_error(f"{self._path.parent.name} is being trained by {_name(seen)}.")

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        if holder["host"] == platform.node() and not is_running(holder["pid"]):
            return True
        return bool(self._clock() - holder["at"] > DEAD_AFTER_S)

    def _read(self) -> dict[str, Any]:
        try:
            holder = json.loads(read_plain_text(self._path))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return holder if _is_lease(holder) else {}

    def _write(self, released: bool = False) -> None:
        self._heartbeats += 1
        self._renewed_at = self._clock()
        values = {
            "token": self._token,
            "host": platform.node(),
            "pid": os.getpid(),
            "since": self._since,
            "beats": self._heartbeats,
            "at": self._renewed_at,
            "released": released,
        }
        self._check()
        self._path.parent.mkdir(exist_ok=True)
        write_text(self._path, json.dumps(values) + "\n")


def _name(holder: dict[str, Any]) -> str:
    return one_line(f"process {holder['pid']} on {holder['host']}, since {holder['since']}", _LONGEST_NAME)


def _is_lease(values: Any) -> bool:
    """Return whether these are the values that a session writes: the folder of the copy may be someone else's."""
    if not isinstance(values, dict):
        return False
    pid, at = values.get("pid"), values.get("at")
    return (
        all(isinstance(values.get(name), str) for name in ("token", "host", "since"))
        and isinstance(pid, int)
        and 0 < pid < _MOST_PROCESSES
        and isinstance(at, int | float)
        and not isinstance(at, bool)
        and abs(at) < _LATEST_S
    )
