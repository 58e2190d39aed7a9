"""The terminal's last line: rewritten in place by progress, cleared for whatever is printed in between."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from typing import TextIO

__all__ = ["LINE", "LiveLine", "in_notebook", "keep_log_apart"]


class LiveLine:
    """The one place that knows whether a line is open in the terminal.

    Args:
        stream: Where to print; None is the standard output of the moment.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._width = 0
        # Checkpoints are written, and their log lines come, from threads beside training.
        self._lock = threading.RLock()

    @property
    def is_terminal(self) -> bool:
        """Whether a line can be rewritten in place; a log file and a notebook get plain lines."""
        return self._output.isatty()

    def replace(self, text: str) -> None:
        """Show ``text`` in place of the open line; where nothing can be rewritten it is printed."""
        if not self.is_terminal:
            self.print(text)
            return
        # A line that wraps cannot be rewritten: the carriage return goes to the start of its last part only.
        shown = text[: max(1, shutil.get_terminal_size().columns - 1)]
        with self._lock:
            self._write("\r" + shown.ljust(self._width))
            self._width = len(shown)

    def print(self, text: str) -> None:
        """Print ``text`` for good, in place of the open line if there is one."""
        with self._lock:
            self._write(self._cleared() + text + "\n")

    def clear(self) -> None:
        """Take the open line away."""
        with self._lock:
            self._write(self._cleared())

    def end(self) -> None:
        """Keep the open line as it is, and go to the next."""
        with self._lock:
            if self._width:
                self._width = 0
                self._write("\n")

    def _cleared(self) -> str:
        width, self._width = self._width, 0
        return "\r" + " " * width + "\r" if width else ""

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()

    @property
    def _output(self) -> TextIO:
        return self._stream or sys.stdout


LINE = LiveLine()
"""The line of this process."""


def keep_log_apart() -> None:
    """Have every handler of the root logger take the live line away before it prints a record."""
    for handler in logging.getLogger().handlers:
        if _take_line_away not in handler.filters:
            # A filter, and not a handler: Kedro refuses handlers of one's own in conf/logging.yml.
            handler.addFilter(_take_line_away)


def _take_line_away(_: logging.LogRecord) -> bool:
    LINE.clear()
    return True


def in_notebook() -> bool:
    """Return whether the program runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
