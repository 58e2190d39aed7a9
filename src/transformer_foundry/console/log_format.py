"""How log records and tracebacks are printed: without secrets, warnings marked, below the status line."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from transformer_foundry.console.status_line import keep_log_apart
from transformer_foundry.core.base.secrets import redact

__all__ = ["LevelFormatter", "RedactedRecord", "install_log_format"]

_PLAIN = "%(message)s"
"""The format in ``conf/logging.yml``; a user who writes another one there keeps it."""


class RedactedRecord(logging.LogRecord):
    """A log record whose message and traceback hold no secret, whatever handler formats it.

    Kedro refuses custom filters in ``conf/logging.yml``, and a filter would guard one handler only.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = redact("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:
        """Return the message without secrets."""
        return redact(super().getMessage())


class LevelFormatter(logging.Formatter):
    """Formats a record as its message, with ``warning:`` or ``error:`` before it from those levels on."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message with the prefix of its level."""
        prefix = "error: " if record.levelno >= logging.ERROR else "warning: "
        return record.message if record.levelno < logging.WARNING else f"{prefix}{record.message}"


def install_log_format() -> None:
    """Set up all log output of the process: redacted records, marked warnings, no record on the status line."""
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _print_redacted
    for handler in logging.getLogger().handlers:
        # Kedro accepts no formatter class of ours in conf/logging.yml.
        if handler.formatter is not None and handler.formatter._fmt == _PLAIN:
            handler.setFormatter(LevelFormatter(_PLAIN))
    keep_log_apart()


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
