"""Let one node at a time use the global random generators: with ThreadRunner several nodes run in one process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["RANDOM_LOCK"]

_LOOK_S = 1.0
"""Seconds between two looks at whether the thread that holds the lock has ended."""


class _ThreadLock:
    """A lock that its thread may take again, and that a thread which has ended holds no longer.

    ``threading.RLock`` would stay taken for good: a generator whose results cannot be saved is left half way, and is
    closed later by another thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: threading.Thread | None = None
        self._depth = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait until no other thread holds the lock, and hold it within this context."""
        thread = threading.current_thread()
        with self._changed:
            while self._is_elsewhere():
                self._changed.wait(_LOOK_S)
            self._depth = self._depth + 1 if self._owner is thread else 1
            self._owner = thread
        try:
            yield
        finally:
            with self._changed:
                if self._owner is thread:
                    self._depth -= 1
                    self._owner = thread if self._depth else None
                    self._changed.notify_all()

    def is_held(self) -> bool:
        """Return whether the current thread holds the lock."""
        return self._owner is threading.current_thread()

    def _is_elsewhere(self) -> bool:
        return self._owner not in (None, threading.current_thread()) and self._owner.is_alive()


RANDOM_LOCK = _ThreadLock()
"""A node holds this lock while it seeds the global generators, or draws from them.

Training draws dropout at every step, so two trainings that take turns would get other weights than one after the other.
A node that yields holds it until its last item. It is no decorator: ``%load_node`` of Kedro would not find the source
of the node.

Example:
    ``with RANDOM_LOCK.hold(): return train(...)``
"""
