"""The last wall: what is logged and what Python prints of an unexpected error holds no secret."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from transformer_foundry.core.base.secrets import redact

__all__ = ["RedactedRecord", "install_redaction"]


class RedactedRecord(logging.LogRecord):
    """A log record whose message and traceback hold no secret, whatever handler formats it.

    Kedro refuses filters of one's own in ``conf/logging.yml``, and a filter would guard one handler only.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = redact("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:
        """Return the message."""
        return redact(super().getMessage())


def install_redaction() -> None:
    """Have everything that is logged, and the traceback of an unexpected error, told without secrets."""
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _print_redacted


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
