"""``report.html``: at the end of each command all that is known of the run, in one file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.system.process import is_main_process

__all__ = ["ReportHooks", "report_interrupted"]

_log = logging.getLogger(__name__)

_running: list[ReportHooks] = []
"""The hook of the pipeline that runs; none before its start and after its end."""


class ReportHooks:
    """Writes the report from what is on disk, so that every pipeline, and one that failed, adds what it has made."""

    def __init__(self) -> None:
        self._parameters: Mapping[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Note that something may be interrupted."""
        _running[:] = [self]

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Write the report; the summary names it."""
        self._write()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Write the report of what there is, and say where."""
        self.report_unfinished()

    def report_unfinished(self) -> None:
        """Write the report of what there is, and say where."""
        if (path := self._write()) is not None:
            _log.info("Report of what there is: %s", path)

    def _write(self) -> Path | None:
        _running.clear()
        if not is_main_process():
            return None
        from transformer_foundry.core.reports import read_run, write_report

        run = self._parameters["run"]
        try:
            return write_report(
                read_run(RunPaths.under(self._parameters["data_dir"], run["name"], run.get("preparation")))
            )
        except Exception as err:  # The run is done and good; what shows it must not turn it into a failure.
            _log.warning("The report was not written: %s: %s", type(err).__name__, err)
            return None


def report_interrupted() -> None:
    """Write the report of a run that Ctrl-C or SIGTERM has ended: Kedro tells its hooks of exceptions only."""
    for hook in list(_running):
        hook.report_unfinished()
