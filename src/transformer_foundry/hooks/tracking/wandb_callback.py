"""Log runs to Weights & Biases."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.config.hook_options import TrackingOptions
from transformer_foundry.core.base.errors import FoundryError, find_foundry_error
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext

if TYPE_CHECKING:
    from transformer_foundry.core.experiments.tuning import TrialResult
    from transformer_foundry.core.publishing import Package
    from transformer_foundry.core.training.events import Checkpoint, Progress, Started
    from transformer_foundry.hooks.results import (
        DataProfile,
        ErrorAnalysis,
        Evaluation,
        ModelComparison,
        Samples,
        ValidationReport,
    )
    from transformer_foundry.hooks.tracking.wandb_run import Tracker

__all__ = ["WandbCallback"]


class WandbCallback(Callback):
    """Logs parameters, metrics, samples, figures, reports, errors, trials, comparison and package of a run.

    The W&B run is opened when there is something of a training, a search or a comparison to log. Reports and figures of
    the exported model and of the data wait for it: validation and data preparation open no W&B run.
    """

    name = "W&B tracking"

    def __init__(self) -> None:
        self._context: RunContext | None = None
        self._options = TrackingOptions()
        self._tracker: Tracker | None = None
        self._waiting_reports: dict[str, Mapping[str, Any]] = {}
        self._waiting_figures: dict[str, Any] = {}
        self._durable_step = -1

    def on_run_start(self, context: RunContext) -> None:
        """Read the options; nothing is opened yet."""
        with contextlib.suppress(Exception):  # a run that was interrupted
            self._end(exit_code=1)
        self._context, self._options = context, context.options(TrackingOptions)
        self._waiting_reports, self._waiting_figures, self._durable_step = {}, {}, -1
        if not self._options.enabled or self._options.mode == "disabled":
            return
        from transformer_foundry.hooks.tracking.wandb_run import Tracker, choose_mode

        if choose_mode(self._options.mode) != "disabled":
            self._tracker = Tracker(
                self._options,
                run_name=context.paths.name,
                run_folder=context.paths.run,
                folder=context.paths.reports,
                config=context.parameters,
            )

    def on_validation(self, report: ValidationReport, *, is_new: bool) -> None:  # noqa: ARG002 - part of the interface
        """Keep the report until there is a W&B run."""
        self._waiting_reports["validation_report"] = report

    def on_data_profile(self, profile: DataProfile, *, is_new: bool) -> None:  # noqa: ARG002 - part of the interface
        """Keep the profile until there is a W&B run."""
        self._waiting_reports["data_profile"] = profile

    def on_started(self, started: Started) -> None:
        """Open the W&B run."""
        if self._tracker is None:
            return
        if not started.resumed:
            self._tracker.leave_earlier_training()
        self._tracker.update_config({"manifest": started.manifest})
        self._log_waiting(self._tracker)
        self._durable_step = started.step
        self._tracker.log_rows_until(self._durable_step)

    def on_progress(self, progress: Progress) -> None:  # noqa: ARG002 - part of the interface
        """Log what a checkpoint has made durable: what is logged is never rolled back."""
        if self._tracker is not None:
            self._tracker.log_rows_until(self._durable_step)

    def on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:  # noqa: ARG002 - part of the interface
        """Keep how far rows are durable."""
        self._durable_step = checkpoint.step

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Log the evaluation, and the best checkpoint if that is asked for."""
        if self._tracker is not None:
            self._log_waiting(self._tracker)
            self._log_checkpoint(self._tracker)
            self._tracker.summarise("evaluation", evaluation)

    def on_samples(self, samples: Samples) -> None:
        """Log the texts of the best checkpoint."""
        if self._tracker is not None:
            self._tracker.log_table("final_samples", [{"sample": text} for text in samples["samples"]])

    def on_error_analysis(self, analysis: ErrorAnalysis) -> None:
        """Log the error analysis."""
        if self._tracker is not None:
            self._tracker.summarise("error_analysis", analysis)
            self._tracker.log_table("worst_examples", analysis.get("worst", []))

    def on_trial(self, trial: TrialResult) -> None:
        """Log a trial as its own W&B run."""
        if self._tracker is not None:
            self._tracker.log_trial(trial)

    def on_model_comparison(self, comparison: ModelComparison) -> None:
        """Log the table of models."""
        if self._tracker is not None:
            self._tracker.log_table("comparison", comparison["models"])

    def on_figure(self, name: str, figure: Any, *, is_of_training: bool) -> None:
        """Log a figure; those of the exported model and of the data wait until there is a W&B run."""
        if not is_of_training:
            self._waiting_figures[name] = figure
        elif self._tracker is not None:
            self._tracker.log(f"figures/{name}", _as_wandb_figure(figure))

    def on_package(self, package: Package) -> None:
        """Log the manifest of the package, and its files if that is asked for."""
        if self._tracker is not None:
            self._tracker.update_config({"package": package.manifest})
            if self._options.log_package:
                self._tracker.log_folder(f"{self._run_name}-package", "model", package.folder)

    def on_run_end(self) -> None:
        """Close the W&B run."""
        self._end(exit_code=0)

    def on_run_error(self, error: Exception) -> None:
        """Send an alert and close the W&B run as failed."""
        if self._tracker is not None and self._options.alerts:
            expected = find_foundry_error(error)
            self._tracker.alert(expected.problem if expected else f"{type(error).__name__}: {error}")
        self._end(exit_code=1)

    def on_disabled(self) -> None:
        """Close the W&B run as failed."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.finish(exit_code=1)

    @property
    def _run_name(self) -> str:
        assert self._context is not None
        return self._context.paths.name

    def _log_waiting(self, tracker: Tracker) -> None:
        for name, report in self._waiting_reports.items():
            tracker.summarise(name, report)
            tracker.log_table(f"{name}/findings", report.get("findings", []))
        for name, figure in self._waiting_figures.items():
            tracker.log(f"figures/{name}", _as_wandb_figure(figure))
        self._waiting_reports, self._waiting_figures = {}, {}

    def _log_checkpoint(self, tracker: Tracker) -> None:
        if not self._options.log_checkpoint:
            return
        from transformer_foundry.core.training.checkpointing.directory import best_checkpoint

        assert self._context is not None
        folder = best_checkpoint(self._context.paths.run)
        if folder is not None:
            tracker.log_folder(f"{self._run_name}-checkpoint", "checkpoint", folder)

    def _end(self, exit_code: int) -> None:
        if (tracker := self._tracker) is None:
            return
        if self._context is not None and self._context.run is not None:
            with contextlib.suppress(FoundryError):  # raised where training is
                self._context.run.wait()
        if self._durable_step >= 0:
            tracker.log_rows_until(self._durable_step)
        tracker.finish(exit_code)
        self._tracker = None


def _as_wandb_figure(figure: Any) -> Any:
    """Return a plotly or matplotlib figure as W&B shows it."""
    import wandb

    if type(figure).__module__.partition(".")[0] == "plotly":
        return wandb.Plotly(figure)
    # wandb asks pyplot whether this is a figure, and fails if pyplot was not imported.
    importlib.import_module("matplotlib.pyplot")
    return wandb.Image(figure)
