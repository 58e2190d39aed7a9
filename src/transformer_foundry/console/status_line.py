"""The status line: the last line of the terminal, rewritten in place and cleared for other output."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import threading
from typing import TextIO

from transformer_foundry.console.program import with_program
from transformer_foundry.core.base.text import one_line, printable

__all__ = ["LINE", "StatusLine", "in_notebook", "keep_log_apart"]


class StatusLine:
    """A line of the terminal that is rewritten in place; knows whether it is open.

    Args:
        stream: Where to print; None means the current ``sys.stdout``.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._width = 0
        # Other threads, which write checkpoints, log too.
        self._lock = threading.RLock()

    @property
    def is_terminal(self) -> bool:
        """Whether the line can be rewritten in place; a log file and a notebook get plain lines."""
        return self._output.isatty()

    def replace(self, text: str) -> None:
        """Show ``text`` in place of the open line; print it where a line cannot be rewritten."""
        if not self.is_terminal:
            self.print(text)
            return
        # A wrapped line cannot be rewritten: a carriage return goes to the start of its last row only.
        shown = one_line(text)[: max(1, shutil.get_terminal_size().columns - 1)]
        with self._lock:
            self._write("\r" + shown.ljust(self._width))
            self._width = len(shown)

    def print(self, text: str) -> None:
        """Print ``text`` permanently, in place of the open line if there is one."""
        with self._lock:
            self._write(self._cleared() + printable(with_program(text)) + "\n")

    def clear(self) -> None:
        """Clear the open line."""
        with self._lock:
            self._write(self._cleared())

    def end(self) -> None:
        """Keep the open line and start a new one."""
        with self._lock:
            if self._width:
                self._width = 0
                self._write("\n")

    def _cleared(self) -> str:
        width, self._width = self._width, 0
        return "\r" + " " * width + "\r" if width else ""

    def _write(self, text: str) -> None:
        # A terminal that was closed takes nothing more; the filter of log records would raise it anywhere.
        with contextlib.suppress(OSError):
            self._output.write(text)
            self._output.flush()

    @property
    def _output(self) -> TextIO:
        return self._stream or sys.stdout


LINE = StatusLine()
"""The status line of this process."""


def keep_log_apart() -> None:
    """Make every handler of the root logger clear the status line before it prints a record."""
    for handler in logging.getLogger().handlers:
        if _clear_line not in handler.filters:
            # A filter, not a handler: Kedro refuses custom handlers in conf/logging.yml.
            handler.addFilter(_clear_line)


def _clear_line(_: logging.LogRecord) -> bool:
    LINE.clear()
    return True


def in_notebook() -> bool:
    """Return whether the program runs in a notebook kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
