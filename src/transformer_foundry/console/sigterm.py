"""Handle SIGTERM like Ctrl-C, so that training saves a checkpoint before the machine stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_terminated", "shutdown_timeout_s", "stop_at_termination"]

GRACE_S = 3.0
"""Time for a hook to finish after SIGTERM, which is often followed by SIGKILL ten seconds later."""

_received = threading.Event()


@contextmanager
def stop_at_termination() -> Iterator[None]:
    """Turn SIGTERM into SIGINT within the ``with`` block, so that training saves a checkpoint and ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()

    def stop(*_: object) -> None:
        _received.set()
        signal.raise_signal(signal.SIGINT)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def is_terminated() -> bool:
    """Return whether SIGTERM was received."""
    return _received.is_set()


def shutdown_timeout_s(usual_s: float) -> float:
    """Return how long to wait for something at the end: ``usual_s``, or a few seconds after SIGTERM."""
    return min(usual_s, GRACE_S) if is_terminated() else usual_s
