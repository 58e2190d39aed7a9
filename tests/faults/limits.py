"""Limits of memory and time for a block of code in this process."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

__all__ = ["limited"]


@contextlib.contextmanager
def limited(*, memory_mib: int = 512, seconds: float = 5.0) -> Iterator[None]:
    """Raise MemoryError or TimeoutError in the block if it takes more than this, beyond what the process has now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def late(*_: object) -> NoReturn:
        raise TimeoutError(f"more than {seconds:g} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_mib * 2**20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
