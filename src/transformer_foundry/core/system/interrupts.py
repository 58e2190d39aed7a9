"""Delay SIGINT until the end of a step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["hold_interrupts"]


@contextmanager
def hold_interrupts(limit_s: float = math.inf) -> Iterator[None]:
    """Delay a first SIGINT until the body is done, so that a step is complete or not taken at all.

    A second SIGINT, or one more than ``limit_s`` seconds after the start, interrupts immediately. Outside the main
    thread, where Python delivers no signals, this does nothing.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    held: list[FrameType | None] = []
    deadline = time.monotonic() + limit_s

    def hold(number: int, frame: FrameType | None) -> None:
        if held or time.monotonic() > deadline:
            previous(number, frame)
        held.append(frame)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held:
            previous(signal.SIGINT, held[0])
