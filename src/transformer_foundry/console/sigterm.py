"""Handle SIGTERM and SIGHUP like Ctrl-C, so that training saves a checkpoint before machine or terminal is gone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_hung_up", "is_terminated", "shutdown_timeout_s", "stop_at_termination"]

GRACE_S = 3.0
"""Time for a hook to finish after SIGTERM, which is often followed by SIGKILL ten seconds later."""

_received = threading.Event()
_hung_up = threading.Event()

_HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""Sent when the terminal is closed or ssh is dropped; Windows has none."""


@contextmanager
def stop_at_termination() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SIGINT within the ``with`` block, so that training saves a checkpoint and ends.

    Under ``nohup``, which ignores SIGHUP, that stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    _hung_up.clear()

    def stop(number: int, _: object) -> None:
        (_received if number == signal.SIGTERM else _hung_up).set()
        signal.raise_signal(signal.SIGINT)

    numbers = [signal.SIGTERM]
    if _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN:
        numbers.append(signal.Signals(_HANGUP))
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def is_terminated() -> bool:
    """Return whether SIGTERM was received."""
    return _received.is_set()


def is_hung_up() -> bool:
    """Return whether SIGHUP was received."""
    return _hung_up.is_set()


def shutdown_timeout_s(usual_s: float) -> float:
    """Return how long to wait for something at the end: ``usual_s``, or a few seconds after SIGTERM."""
    return min(usual_s, GRACE_S) if is_terminated() else usual_s
