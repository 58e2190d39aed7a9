"""Copy in the background while a pipeline runs, without blocking it; a failure never ends it.

What is on the disk and not in the copy has to be copied: no state is needed to resume after an outage.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from transformer_foundry.console.sigterm import shutdown_timeout_s
from transformer_foundry.hooks.drive.verified_copy import problem_of

__all__ = ["BackgroundSync"]

_log = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 600.0
"""Longest wait at the end of a run: enough for a checkpoint of 100M parameters (1.2 GB) at 2 MB/s."""

FIRST_RETRY_S, RETRY_S = 1.0, 60.0
"""Between two attempts in an outage: at first, then twice as long each time, and at most."""

PROBE_S = 5.0
"""Between two looks at whether the copy is still there."""


class BackgroundSync:
    """Updates a copy in one background thread at each request.

    An update that fails is logged once for each outage and repeated at the next request, or after a minute.

    Args:
        copy_folder: Folder of the copy, for messages.
        update: Brings the copy up to date. Its argument is whether this is the last update; it returns the seconds
            until it is to be called again, None for the next request.
        probe: Looks whether the copy is there, and raises an ``OSError`` if not. It is called every few seconds, so
            that the end of a mount is reported at once, and its return followed by an update.
    """

    def __init__(
        self, copy_folder: Path, update: Callable[[bool], float | None], probe: Callable[[], None] | None = None
    ) -> None:
        self.copy_folder, self._update, self._probe = copy_folder, update, probe
        self._changed = threading.Condition()
        self._requested = 0
        self._attempted = 0
        self._is_last = False
        self._is_ended = False
        self._thread: threading.Thread | None = None
        self._is_outage = False
        self._is_away = False
        self._retry_s = 0.0

    def request(self) -> None:
        """Request an update, and return at once."""
        with self._changed:  # training and the writer of checkpoints may both ask first
            self._requested += 1
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="drive-copy", daemon=True)
                self._thread.start()

    def finish(self, timeout_s: float = FINISH_TIMEOUT_S) -> bool:
        """Update the copy a last time and wait for it.

        Args:
            timeout_s: Longest wait, in seconds; shorter after SIGTERM, when the machine is about to vanish.

        Returns:
            Whether the copy is complete.
        """
        if self._thread is None:
            return True
        timeout_s = shutdown_timeout_s(timeout_s)
        self._is_last = True
        self.request()
        if not self.wait(1.0):
            _log.info("Waiting for the last copy to %s (at most %.0f s) ...", self.copy_folder, timeout_s)
        is_complete = self.wait(timeout_s) and not self._is_outage
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
        return is_complete

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything requested so far was attempted, and return whether it was."""
        with self._changed:
            wanted = self._requested
            return self._changed.wait_for(lambda: self._attempted >= wanted, timeout_s)

    def report(self, err: Exception) -> None:
        """Log a failure, once for each outage."""
        if not self._is_outage:
            _log.warning(
                "Nothing can be copied to or from %s now: %s. Training continues; the next copy is attempted as usual.",
                self.copy_folder,
                problem_of(err),
            )
        self._is_outage = True

    def _work(self) -> None:
        pause: float | None = None
        while (seen := self._wait_for_turn(pause)) is not None:
            try:
                pause = self._update(self._is_last)
                if self._is_outage:
                    _log.info("%s can be written again: the copy is up to date.", self.copy_folder)
                self._is_outage = False
                self._retry_s = 0.0
            except Exception as err:  # a thread that ends would leave the end of the run waiting for it
                self.report(err)
                pause = self._retry_s = min(max(FIRST_RETRY_S, 2 * self._retry_s), RETRY_S)
                self._is_back()
            with self._changed:
                self._attempted = seen
                self._changed.notify_all()

    def _wait_for_turn(self, pause: float | None) -> int | None:
        """Wait until an update is due; return how many were requested until then, None if the session has ended.

        After a failed attempt, requests repeat none before ``pause`` is over: there is one retry at a time.
        """
        due = math.inf if pause is None else time.monotonic() + pause
        while True:
            with self._changed:
                now, is_requested = time.monotonic(), self._attempted < self._requested
                if self._is_ended:
                    return None
                if now >= due or (is_requested and (self._is_last or not (self._retry_s or self._is_away))):
                    return self._requested
                look_at = math.inf if self._probe is None else now + PROBE_S
                timeout_s = min(due, look_at) - now
                self._changed.wait(None if math.isinf(timeout_s) else timeout_s)
            if self._is_back():
                return self._requested

    def _is_back(self) -> bool:
        """Look at the copy; return whether it was away and is there again."""
        if self._probe is None:
            return False
        try:
            self._probe()
        except OSError as err:
            self.report(err)
            self._is_away = True
            return False
        was_away, self._is_away = self._is_away, False
        return was_away
