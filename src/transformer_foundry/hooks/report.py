"""Write ``report.html`` at the end of each command: all that is known of the run, in one file."""

from __future__ import annotations

import logging
from pathlib import Path

from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["ReportCallback"]

_log = logging.getLogger(__name__)


class ReportCallback(Callback):
    """Writes the report from what is on disk, so that every pipeline, and one that failed, adds what it has made."""

    name = "The report"
    _paths: RunPaths

    def on_run_start(self, context: RunContext) -> None:
        """Keep where the files of the run are."""
        self._paths = context.paths

    def on_run_end(self) -> None:
        """Write the report; the summary names it."""
        self._write()

    def on_run_error(self, error: Exception) -> None:
        """Write the report of what there is, and log where."""
        self._write_unfinished()

    def on_interrupt(self) -> None:
        """Write the report of what there is, and log where."""
        self._write_unfinished()

    def _write_unfinished(self) -> None:
        if (path := self._write()) is not None:
            _log.info("Report of the unfinished run: %s", path)

    def _write(self) -> Path | None:
        from transformer_foundry.core.reports import read_run, write_report

        return write_report(read_run(self._paths))
