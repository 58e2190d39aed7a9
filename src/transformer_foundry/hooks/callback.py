"""The base class of callbacks, by which trackers, displays and copies follow a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from kedro.pipeline.node import Node

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.publishing import Package
    from transformer_foundry.core.studies.tuning import TrialResult
    from transformer_foundry.core.training.events import Checkpoint, Progress, Started
    from transformer_foundry.hooks.results import (
        DataProfile,
        ErrorAnalysis,
        Evaluation,
        HubPublication,
        ModelComparison,
        Samples,
        SearchComparison,
        ValidationReport,
    )
    from transformer_foundry.hooks.run_context import RunContext

__all__ = ["Callback"]


class Callback:
    """Base class of callbacks, with empty methods: override those that matter.

    To add a callback, write a subclass and add an instance to the list in ``settings.py``. Each method is called in the
    main process after what it is about was saved, so that no callback changes what is trained. An exception in one is
    logged as one warning, and the callback is not called again in this run.

    A callback follows one training run: what a pipeline makes for another run is announced to a shallow copy of the
    callback. So prepare what changes during a run in ``on_run_start``, not in the constructor.

    Results have ``is_new``: False for one of an earlier command, which a node has read or kept because it still fits.

    Attributes:
        name: What the warning calls it.
        is_required: Whether the run depends on it: ``on_run_start`` is called in every process of torchrun, an
            exception that it raises ends the run before the first node, and no later exception switches it off.
        nesting: Callbacks nest like ``with`` statements: those with lower numbers start earlier and end later, in any
            order of the list. Ours: summary 10 (names at last what was made), check before a run 15 (refuses it before
            anything is restored), Drive 20 (restores what is missing, copies last), report 40, others 50, progress 60,
            trackers 70.

    Example:
        class PrintLoss(Callback):
            name = "Printing the loss"

            def on_progress(self, progress: Progress) -> None:
                print(progress.step, progress.metrics.get("train/loss"))
    """

    name: ClassVar[str] = "A callback"
    is_required: ClassVar[bool] = False
    nesting: ClassVar[int] = 50

    def is_enabled(self, context: RunContext) -> bool:
        """Return whether the callback takes part in the run; if not, nothing else is called."""
        return True

    def check_run(self, context: RunContext) -> None:
        """Refuse a run that cannot succeed; nothing of it may have been written yet, and nothing is written here.

        Called if ``is_required``, for all runs of a command before the first is started.

        Raises:
            FoundryError: If the run must not start.
        """

    def on_run_start(self, context: RunContext) -> None:
        """Prepare for the run, before its first node; a notebook starts many runs with one callback.

        Raises:
            FoundryError: If ``is_required`` and the run must not start.
        """

    def on_node_start(self, node: Node) -> None:
        """Note that a node starts; of several runs that it works for, the first is told."""

    def on_file_saved(self, path: Path) -> None:
        """Note that the local file or folder of a catalog entry was written; a run has its own methods.

        Of several runs that it is made for, the first is told.
        """

    def on_validation(self, report: ValidationReport, *, is_new: bool) -> None:
        """Take the report of the checks: when it is saved (``is_new``), or when one of an earlier command is read."""

    def on_token_splits(self, splits: TokenSplits, *, is_new: bool) -> None:
        """Take the prepared data: when they are saved (``is_new``), or when those of an earlier command are read."""

    def on_data_profile(self, profile: DataProfile, *, is_new: bool) -> None:
        """Take the profile of the data: when it is saved (``is_new``), or when one of an earlier command is read."""

    def on_started(self, started: Started) -> None:
        """Training starts or resumes, or returns to a checkpoint: what was recorded of later steps is then void."""

    def on_progress(self, progress: Progress) -> None:
        """Take the metrics of a step, and samples if it was evaluated.

        A later session repeats the steps after the last durable checkpoint and calls this for them again.
        """

    def on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        """Note that a checkpoint is durable in ``folder``.

        Called in the thread that writes checkpoints, beside training: return soon, and keep no reference to
        ``checkpoint.state``.
        """

    def on_evaluation(self, evaluation: Evaluation, *, is_new: bool) -> None:
        """Take the metrics of the best checkpoint."""

    def on_samples(self, samples: Samples, *, is_new: bool) -> None:
        """Take the texts of the best checkpoint."""

    def on_error_analysis(self, analysis: ErrorAnalysis, *, is_new: bool) -> None:
        """Take the examples with which the best checkpoint errs."""

    def on_trial(self, trial: TrialResult) -> None:
        """Take a trial of a search that has ended."""

    def on_search_comparison(self, comparison: SearchComparison, *, is_new: bool) -> None:
        """Take the comparison of a search's winner with the default parameters."""

    def on_model_comparison(self, comparison: ModelComparison, *, is_new: bool) -> None:
        """Take the table of several models that were trained side by side."""

    def on_figure(self, name: str, figure: Any, *, is_of_training: bool, is_new: bool) -> None:
        """Take a figure.

        Args:
            name: Name of the catalog entry, without namespace.
            figure: A figure of plotly or matplotlib.
            is_of_training: Whether it shows a training, a search or a comparison of models; False for figures of the
                exported model and of the data.
            is_new: Whether the figure, or what it shows, was made by this command.
        """

    def on_package(self, package: Package, *, is_new: bool) -> None:
        """Take the package of a model, which is in its final folder."""

    def on_publication(self, publication: HubPublication, *, is_new: bool) -> None:
        """Take where the package was published, or that it was not."""

    def on_run_end(self) -> None:
        """Finish after the last node."""

    def on_run_error(self, error: Exception) -> None:
        """Finish after a node has raised ``error``."""

    def on_interrupt(self) -> None:
        """React to Ctrl-C or SIGTERM: the process is about to end, and ``on_run_end`` is not called."""

    def on_disabled(self) -> None:
        """Close what is open, and expect no other call in this run.

        One of the methods has raised, a required callback has refused the run, or the next run of a notebook starts
        after this one was interrupted.
        """
