"""Log runs to Weights & Biases."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.config.hook_options import TrackingOptions
from transformer_foundry.core.base.errors import error_message, find_foundry_error
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.tracking.wandb_run import WandbRun, choose_mode

if TYPE_CHECKING:
    from transformer_foundry.core.publishing import Package
    from transformer_foundry.core.studies.tuning import TrialResult
    from transformer_foundry.core.training.events import Checkpoint, Progress, Started
    from transformer_foundry.hooks.results import (
        DataProfile,
        ErrorAnalysis,
        Evaluation,
        ModelComparison,
        Samples,
        ValidationReport,
    )

__all__ = ["WandbCallback"]


class WandbCallback(Callback):
    """Logs parameters, metrics, samples, figures, reports, errors, trials, comparison and package of a run.

    The W&B run is opened when there is something of a training, a search or a comparison to log. Reports and figures of
    the exported model and of the data wait for it: validation and data preparation open no W&B run.
    """

    name = "W&B tracking"
    nesting = 70
    _context: RunContext

    def __init__(self) -> None:
        self._open_run: WandbRun | None = None
        self._waiting_reports: dict[str, tuple[Mapping[str, Any], bool]] = {}
        self._waiting_figures: dict[str, Any] = {}
        self._durable_step = -1

    def is_enabled(self, context: RunContext) -> bool:
        """Return whether anything is logged."""
        options = context.options(TrackingOptions)
        return options.enabled and choose_mode(options.mode) != "disabled"

    def on_run_start(self, context: RunContext) -> None:
        """Prepare the W&B run; it is opened when there is something to log."""
        self._context, self._durable_step = context, -1
        self._waiting_reports, self._waiting_figures = {}, {}
        self._open_run = WandbRun(
            context.options(TrackingOptions),
            run_name=context.paths.name,
            run_folder=context.paths.run,
            folder=context.paths.reports,
            config=context.parameters,
        )

    def on_validation(self, report: ValidationReport, *, is_new: bool) -> None:
        """Keep the report until there is a W&B run."""
        self._waiting_reports["validation_report"] = report, is_new

    def on_data_profile(self, profile: DataProfile, *, is_new: bool) -> None:
        """Keep the profile until there is a W&B run."""
        self._waiting_reports["data_profile"] = profile, is_new

    def on_started(self, started: Started) -> None:
        """Open the W&B run, unless nothing is left to train or to log."""
        if started.resumed and started.step >= started.total_steps:
            self._durable_step = started.step
            self._run.log_rows_until(self._durable_step)
            return
        if not started.resumed:
            self._run.leave_earlier_training()
        self._durable_step = started.step
        self._run.log_rows_until(self._durable_step)
        self._run.update_config({"manifest": started.manifest})
        self._log_waiting()

    def on_progress(self, progress: Progress) -> None:
        """Log what a checkpoint has made durable: what is logged is never rolled back."""
        self._run.log_rows_until(self._durable_step)

    def on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        """Keep up to which step rows are durable."""
        self._durable_step = checkpoint.step

    def on_evaluation(self, evaluation: Evaluation, *, is_new: bool) -> None:
        """Log a new evaluation, and the best checkpoint if ``tracking.log_checkpoint``."""
        if not is_new:
            return
        self._log_waiting()
        if self._context.options(TrackingOptions).log_checkpoint:
            self._log_best_checkpoint()
        self._run.summarize("evaluation", evaluation)

    def on_samples(self, samples: Samples, *, is_new: bool) -> None:
        """Log new texts of the best checkpoint."""
        if is_new:
            self._run.log_table("final_samples", [{"sample": text} for text in samples["samples"]])

    def on_error_analysis(self, analysis: ErrorAnalysis, *, is_new: bool) -> None:
        """Log a new error analysis."""
        if is_new:
            self._run.summarize("error_analysis", analysis)
            self._run.log_table("worst_examples", analysis.get("worst", []))

    def on_trial(self, trial: TrialResult) -> None:
        """Log a trial as its own W&B run."""
        self._run.log_trial(trial)

    def on_model_comparison(self, comparison: ModelComparison, *, is_new: bool) -> None:
        """Log a new table of models."""
        if is_new:
            self._run.log_table("comparison", comparison["models"])

    def on_figure(self, name: str, figure: Any, *, is_of_training: bool, is_new: bool) -> None:
        """Log a new figure; those of the exported model and of the data wait until there is a W&B run."""
        if not is_new:
            return
        if is_of_training:
            self._run.log(f"figures/{name}", lambda: _as_wandb_figure(figure))
        else:
            self._waiting_figures[name] = figure

    def on_package(self, package: Package, *, is_new: bool) -> None:
        """Log the manifest of a new package, and its files if ``tracking.log_package``."""
        if not is_new:
            return
        self._run.update_config({"package": package.manifest})
        if self._context.options(TrackingOptions).log_package:
            self._run.log_folder(f"{self._context.paths.name}-package", "model", package.folder)

    def on_run_end(self) -> None:
        """Close the W&B run."""
        self._end(exit_code=0)

    def on_run_error(self, error: Exception) -> None:
        """Send an alert and close the W&B run as failed."""
        if self._context.options(TrackingOptions).alerts:
            expected = find_foundry_error(error)
            self._run.alert(expected.problem if expected else f"{type(error).__name__}: {error_message(error)}")
        self._end(exit_code=1)

    def on_disabled(self) -> None:
        """Close the W&B run as failed."""
        if self._open_run is not None:
            self._open_run.finish(exit_code=1)
            self._open_run = None

    @property
    def _run(self) -> WandbRun:
        assert self._open_run is not None, "on_run_start was not called"
        return self._open_run

    def _log_waiting(self) -> None:
        is_resumed = self._run.is_resumed
        for name, (report, is_new) in self._waiting_reports.items():
            if is_resumed and not is_new:
                continue  # an earlier session has logged it
            self._run.summarize(name, report)
            self._run.log_table(f"{name}/findings", report.get("findings", []))
        for name, figure in self._waiting_figures.items():
            self._run.log(f"figures/{name}", functools.partial(_as_wandb_figure, figure))
        self._waiting_reports, self._waiting_figures = {}, {}

    def _log_best_checkpoint(self) -> None:
        from transformer_foundry.core.training.checkpointing.directory import best_checkpoint

        folder = best_checkpoint(self._context.paths.run)
        if folder is not None:
            self._run.log_folder(f"{self._context.paths.name}-checkpoint", "checkpoint", folder)

    def _end(self, exit_code: int) -> None:
        run, self._open_run = self._open_run, None
        if run is None:
            return
        try:
            if self._durable_step >= 0:
                run.log_rows_until(self._durable_step)
        finally:
            run.finish(exit_code)


def _as_wandb_figure(figure: Any) -> Any:
    """Return a plotly or matplotlib figure as W&B shows it."""
    import wandb

    if type(figure).__module__.partition(".")[0] == "plotly":
        return wandb.Plotly(figure)
    # wandb asks pyplot whether this is a figure, and fails if pyplot was not imported.
    importlib.import_module("matplotlib.pyplot")
    return wandb.Image(figure)
