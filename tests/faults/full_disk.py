"""A disk that is full: beyond a size, writing to a file fails."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["room_for"]


@contextlib.contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size_bytes`` while the block lasts; Python ignores the signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
