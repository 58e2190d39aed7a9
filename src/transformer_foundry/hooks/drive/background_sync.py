"""Copy in the background while a pipeline runs, without blocking it; a failure never ends it.

What is on the disk and not in the copy has to be copied: no state is needed to resume after an outage.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from transformer_foundry.console.sigterm import shutdown_timeout_s
from transformer_foundry.hooks.drive.verified_copy import problem_of

__all__ = ["BackgroundSync"]

_log = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 600.0
"""Longest wait at the end of a run: enough for a checkpoint of 100M parameters (1.2 GB) at 2 MB/s."""

RETRY_S = 60.0
"""Between two attempts while nothing new is requested."""


class BackgroundSync:
    """Updates a copy in one background thread at each request.

    An update that fails is logged once for each outage and repeated at the next request, or after a minute.

    Args:
        copy_folder: Folder of the copy, for messages.
        update: Brings the copy up to date. Its argument is whether this is the last update; it returns the seconds
            until it is to be called again, None for the next request.
    """

    def __init__(self, copy_folder: Path, update: Callable[[bool], float | None]) -> None:
        self.copy_folder, self._update = copy_folder, update
        self._changed = threading.Condition()
        self._requested = 0
        self._attempted = 0
        self._is_last = False
        self._is_ended = False
        self._thread: threading.Thread | None = None
        self._is_outage = False

    def request(self) -> None:
        """Request an update, and return at once."""
        with self._changed:  # training and the writer of checkpoints may both ask first
            self._requested += 1
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="drive-copy", daemon=True)
                self._thread.start()
                # Ctrl-C in a terminal ends the process without a call of on_run_end.
                atexit.register(self.finish)

    def finish(self, timeout_s: float = FINISH_TIMEOUT_S) -> bool:
        """Update the copy a last time and wait for it.

        Args:
            timeout_s: Longest wait, in seconds; shorter after SIGTERM, when the machine is about to vanish.

        Returns:
            Whether the copy is complete.
        """
        if self._thread is None:
            return True
        atexit.unregister(self.finish)
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
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_ended or self._attempted < self._requested, pause)
                if self._is_ended:
                    return
                seen = self._requested
            try:
                pause = self._update(self._is_last)
                if self._is_outage:
                    _log.info("%s can be written again: the copy is up to date.", self.copy_folder)
                self._is_outage = False
            except Exception as err:  # a thread that ends would leave the end of the run waiting for it
                self.report(err)
                pause = RETRY_S
            with self._changed:
                self._attempted = seen
                self._changed.notify_all()
