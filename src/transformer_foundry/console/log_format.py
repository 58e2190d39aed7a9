"""How log records and tracebacks are printed: without secrets, warnings marked, below the status line."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import LOGGING
from kedro.utils import find_config_file, find_kedro_project

from transformer_foundry.console.program import with_program
from transformer_foundry.console.status_line import keep_log_apart
from transformer_foundry.core.base.errors import find_foundry_error, format_error
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import printable

__all__ = ["LevelFormatter", "LoggingHooks", "RedactedRecord", "follow_conf_source", "install_log_format"]

_PACKAGED = Path(__file__).with_name("logging.yml")

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
        """Return the message without secrets and without characters that a terminal would obey."""
        return printable(redact(super().getMessage()))


class LevelFormatter(logging.Formatter):
    """Formats a record as its message, with ``warning:`` or ``error:`` before it from those levels on."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message with the prefix of its level."""
        prefix = "error: " if record.levelno >= logging.ERROR else "warning: "
        message = with_program(record.message)
        return message if record.levelno < logging.WARNING else f"{prefix}{message}"


def install_log_format() -> None:
    """Set up all log output of the process: redacted records, marked warnings, no record on the status line."""
    _use_own_configuration()
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _print_redacted
    _mark_warnings()
    keep_log_apart()


class LoggingHooks:
    """Configures logging as the configuration says that a session reads."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Follow ``--conf-source``."""
        follow_conf_source(Path(str(getattr(context.config_loader, "conf_source", ""))))


def follow_conf_source(folder: Path) -> None:
    """Configure logging as ``logging.yml`` of a ``--conf-source`` says; ``KEDRO_LOGGING_CONFIG`` counts more."""
    path = folder / "logging.yml"
    if _is_chosen() or not path.is_file():
        return
    configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    if configuration != LOGGING.data:
        LOGGING.configure(configuration)
        _mark_warnings()


def _use_own_configuration() -> None:
    """Configure logging as ``conf/logging.yml`` says where Kedro does not find it: in a sub-folder, without conf/."""
    if not os.environ.get("KEDRO_LOGGING_CONFIG") and find_config_file("conf/logging") is None:
        LOGGING.configure(yaml.safe_load(_usual_configuration().read_text(encoding="utf-8")))


def _usual_configuration() -> Path:
    path = Path(find_kedro_project(Path.cwd()) or "", "conf", "logging.yml")
    return path if path.is_file() else _PACKAGED


def _is_chosen() -> bool:
    """Return whether the user has chosen a file: the installed program sets the variable itself."""
    chosen = os.environ.get("KEDRO_LOGGING_CONFIG")
    return bool(chosen) and Path(str(chosen)).resolve() != _PACKAGED.resolve()


def _mark_warnings() -> None:
    for handler in logging.getLogger().handlers:
        # Kedro accepts no formatter class of ours in conf/logging.yml.
        if handler.formatter is not None and handler.formatter._fmt == _PLAIN:
            handler.setFormatter(LevelFormatter(_PLAIN))


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an expected error in three lines, also of commands of other packages, and any other with its traceback."""
    expected = None if os.environ.get("FOUNDRY_DEBUG") else find_foundry_error(error)
    if expected is not None:
        sys.stderr.write(f"{with_program(format_error(expected))}\n")
        return
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
