"""Tracking with Weights & Biases: sees what is saved and logs it; nothing it does can stop training."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

from transformer_foundry.config.hook_options import TrackingOptions
from transformer_foundry.core.base.errors import FoundryError, find_foundry_error
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.system.process import is_main_process

if TYPE_CHECKING:
    from transformer_foundry.hooks.tracking.wandb_run import Tracker

__all__ = ["TrackingHooks"]

_log = logging.getLogger(__name__)

_REPORTS = (
    "validation_report",
    "data_profile",
    "validation_figure",
    "length_figure",
    "token_figure",
    "label_figure",
)
"""What is known before there is a model: it waits for the run that training or a search opens."""


class TrackingHooks:
    """Logs parameters, metrics, samples, figures, reports, errors, trials, comparison and package of a run.

    The W&B run is opened when there is something of a model to log: checking a model or preparing data opens none.
    """

    def __init__(self) -> None:
        self._parameters: Mapping[str, Any] = {}
        self._options = TrackingOptions()
        self._tracker: Tracker | None = None
        self._reports: dict[str, Mapping[str, Any]] = {}
        self._catalog: CatalogProtocol | None = None
        self._run: Any = None
        self._durable_step = -1

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def before_pipeline_run(self, catalog: CatalogProtocol) -> None:
        """Get ready; nothing is opened yet."""
        self._end(exit_code=1)
        with self._harmless():
            self._options = parse_options(TrackingOptions, self._parameters.get("tracking"), "tracking")
            if self._options.enabled and self._options.mode != "disabled" and is_main_process():
                self._begin(catalog)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Keep the reports of earlier commands that this one reads."""
        if self._tracker is not None and dataset_name in _REPORTS:
            self._reports.setdefault(dataset_name, data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what was saved."""
        if self._tracker is not None:
            with self._harmless():
                self._log(self._tracker, dataset_name, data)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the W&B run."""
        self._end(exit_code=0)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Send an alert and close the W&B run as failed."""
        if self._tracker is not None and self._options.alerts:
            with self._harmless():
                expected = find_foundry_error(error)
                self._tracker.alert(expected.problem if expected else f"{type(error).__name__}: {error}")
        self._end(exit_code=1)

    def _begin(self, catalog: CatalogProtocol) -> None:
        from transformer_foundry.hooks.tracking.wandb_run import Tracker, choose_mode

        if choose_mode(self._options.mode) == "disabled":
            return
        run: Any = catalog.get("training_run")
        run.subscribe(self._note_durable)
        self._catalog, self._run, self._durable_step = catalog, run, -1
        self._reports = {}
        name = self._parameters["run"]["name"]
        self._tracker = Tracker(
            self._options,
            run_name=name,
            run_folder=run.folder,
            folder=Path(self._parameters["data_dir"]) / "08_reporting" / name,
            config=self._parameters,
        )

    def _log(self, tracker: Tracker, dataset_name: str, data: Any) -> None:
        if dataset_name in _REPORTS:
            # They come before training, and alone they are no reason to open a run.
            self._reports[dataset_name] = data
        elif dataset_name == "training_run":
            self._log_training(tracker, data)
        elif dataset_name == "study":
            tracker.log_trial(data)
        elif dataset_name == "evaluation":
            self._log_reports(tracker)
            self._log_checkpoint(tracker)
            tracker.summarise("evaluation", data)
        elif dataset_name == "samples":
            tracker.log_table("final_samples", [{"sample": text} for text in data.get("samples", [])])
        elif dataset_name == "error_analysis":
            tracker.summarise("error_analysis", data)
            tracker.log_table("worst_examples", data.get("worst", []))
        elif dataset_name == "comparison":
            tracker.log_table("comparison", data["models"])
        elif dataset_name == "model_package":
            self._log_package(tracker, data)
        elif (figure := _as_wandb_figure(data)) is not None:
            tracker.log(f"figures/{dataset_name}", figure)

    def _log_training(self, tracker: Tracker, record: Any) -> None:
        from transformer_foundry.core.training.events import Started

        if isinstance(record, Started):
            if not record.resumed:
                tracker.leave_earlier_training()
            tracker.update_config({"manifest": record.manifest})
            self._log_reports(tracker)
            self._durable_step = record.step
        # Only what a checkpoint has made durable: what is logged of a run is never rolled back.
        tracker.log_rows_until(self._durable_step)

    def _note_durable(self, _folder: Path, checkpoint: Any) -> None:
        self._durable_step = checkpoint.step

    def _log_reports(self, tracker: Tracker) -> None:
        for name, report in self._reports.items():
            if (figure := _as_wandb_figure(report)) is not None:
                tracker.log(f"figures/{name}", figure)
                continue
            tracker.summarise(name, report)
            tracker.log_table(f"{name}/findings", report.get("findings", []))
        self._reports = {}

    def _log_checkpoint(self, tracker: Tracker) -> None:
        if not self._options.log_checkpoint:
            return
        from transformer_foundry.core.training.checkpointing.directory import best_checkpoint

        folder = best_checkpoint(self._run.folder)
        if folder is not None:
            tracker.log_folder(f"{self._parameters['run']['name']}-checkpoint", "checkpoint", folder)

    def _log_package(self, tracker: Tracker, package: Any) -> None:
        tracker.update_config({"package": package.manifest})
        if self._options.log_package and self._catalog is not None:
            # Saving has moved the folder that the package was built in.
            kept: Any = self._catalog.load("model_package")
            tracker.log_folder(f"{self._parameters['run']['name']}-package", "model", kept.folder)

    def _end(self, exit_code: int) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with self._harmless():
                with contextlib.suppress(FoundryError):  # told where training is
                    self._run.wait()
                if self._durable_step >= 0:
                    tracker.log_rows_until(self._durable_step)
                tracker.finish(exit_code)

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as err:  # a tracker is no reason to stop training, whatever it raises
            _log.warning("W&B tracking is off from here on: %s: %s", type(err).__name__, " ".join(str(err).split()))
            tracker, self._tracker = self._tracker, None
            if tracker is not None:
                with contextlib.suppress(Exception):
                    tracker.finish(exit_code=1)


def _as_wandb_figure(data: Any) -> Any:
    """Return a plotly or matplotlib figure as W&B shows it, None for anything else; imports neither."""
    library = type(data).__module__.partition(".")[0]
    if type(data).__name__ != "Figure" or library not in ("plotly", "matplotlib"):
        return None
    import wandb

    if library == "plotly":
        return wandb.Plotly(data)
    # wandb asks pyplot whether this is a figure, and fails where nobody has imported it.
    importlib.import_module("matplotlib.pyplot")
    return wandb.Image(data)
