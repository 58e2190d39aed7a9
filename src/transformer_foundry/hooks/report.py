"""Write ``report.html`` at the end of each command: all that is known of the run, in one file."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from transformer_foundry.console.command_line import run_command
from transformer_foundry.hooks import results
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["MADE_BY", "ReportCallback"]

_log = logging.getLogger(__name__)

_KINDS: Mapping[str, type[Any]] = {
    "validation": results.ValidationReport,
    "profile": results.DataProfile,
    "evaluation": results.Evaluation,
    "errors": results.ErrorAnalysis,
    "samples": results.Samples,
    "comparison": results.SearchComparison,
    "models": results.ModelComparison,
    "best": results.BestParameters,
}
"""Part of the report -> the type of the result that it shows, under whatever name the catalog keeps it."""


MADE_BY = {
    "trials": ("draw_search", "DataFrame"),
    "models_table": ("draw_comparison", "DataFrame"),
    "validation_figure": ("check_export", "MatplotlibFigure"),
    "tokens": ("prepare_tokens", "TokenSplits"),
}
"""Other part of the report -> the function of its node, and the type of the output."""


class ReportCallback(Callback):
    """Writes the report from what is on disk, so that every pipeline, and one that failed, adds what it has made."""

    name = "The report"
    nesting = 40
    _context: RunContext

    def on_run_start(self, context: RunContext) -> None:
        """Keep where the files of the run are, and say in an earlier report that a command works on the run."""
        from transformer_foundry.core.reports import mark_outdated

        self._context = context
        mark_outdated(context.paths.report, "A command that has not ended, or was killed, began")

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

        context = self._context
        if not context.results:  # a project whose pipelines make no results; else such files are of an earlier run
            return write_report(read_run(context.paths, None, self._command_of))
        kept = context.load_results()
        entries = {
            name: next((entry for entry, value in kept.items() if results.is_result(value, kind)), None)
            for name, kind in _KINDS.items()
        }
        found: dict[str, Mapping[str, Any]] = {
            name: {} if entry is None else kept[entry] for name, entry in entries.items()
        }
        for name, (function, kind_of_output) in MADE_BY.items():
            entries[name] = context.made_by(function, kind_of_output)
        files = {name: context.files[entry] for name, entry in entries.items() if entry and entry in context.files}
        trials = None if _is_csv(files.get("trials")) else _rows(context, entries["trials"])
        return write_report(read_run(context.paths, found, self._command_of, files=files, trials=trials))

    def _command_of(self, pipeline_name: str) -> str:
        context = self._context
        return run_command([pipeline_name], context.env, context.runtime_params, context.conf_source)


def _is_csv(path: Path | None) -> bool:
    return path is not None and path.is_file() and path.suffix == ".csv"


def _rows(context: RunContext, entry: str | None) -> list[dict[str, Any]]:
    """Return the rows of a table of the catalog as a file of comma-separated values would have them."""
    with contextlib.suppress(DatasetError, OSError):
        if entry is not None and context.catalog.exists(entry):
            return list(csv.DictReader(io.StringIO(context.catalog.load(entry).to_csv(index=False))))
    return []
