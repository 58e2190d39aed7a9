"""The project's only class of Kedro hooks: turns what nodes load and save into calls of typed callbacks."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from transformer_foundry.core.training.events import Checkpoint, Event, Progress, Started
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.results import (
    DataProfile,
    ErrorAnalysis,
    Evaluation,
    HubPublication,
    ModelComparison,
    Samples,
    SearchComparison,
    ValidationReport,
    is_result,
)
from transformer_foundry.hooks.run_context import RunContext, find_dataset, make_run_context

__all__ = ["KedroHooks", "report_interrupted"]

_log = logging.getLogger(__name__)

_running: list[KedroHooks] = []
"""The hooks of the pipeline that runs; none before its start and after its end."""


class KedroHooks:
    """Calls callbacks, found by the type of what is saved and never by the name of a catalog entry.

    The callbacks nest like ``with`` statements: the first is started first and ended last. Everything in between, too,
    reaches the last one first.

    Args:
        callbacks: The callbacks, outermost first.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)
        self._active: list[Callback] = []
        self._config: Mapping[str, Any] = {}
        self._context: RunContext | None = None
        self._seen: set[str] = set()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the configuration."""
        self._config = context.config_loader

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the callbacks; in the processes of torchrun other than the first only those that a run depends on.

        Raises:
            FoundryError: If a callback refuses the run.
        """
        self._context = context = make_run_context(self._config, run_params, pipeline, catalog)
        self._seen, self._active = set(), []
        try:
            for callback in self._callbacks:
                if context.is_main_process or callback.is_required:
                    self._start(callback, context)
        except Exception:  # Kedro announces no error of this hook: what has started closes what it opened
            self._close_all()
            raise
        if not context.is_main_process:
            self._active = []
            _discard_outputs(pipeline, catalog)
            return
        if context.run is not None:
            context.run.subscribe(self._on_checkpoint)
        _running[:] = [self]

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Announce a node."""
        self._notify(lambda callback: callback.on_node_start(node.name))

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: object) -> None:
        """Announce a result of an earlier command, once."""
        if self._active and dataset_name not in self._seen:
            self._seen.add(dataset_name)
            self._notify_shared(data, is_new=False)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: object, node: Node) -> None:
        """Announce what was saved."""
        if not self._active or self._context is None:
            return
        self._seen.add(dataset_name)
        if (path := self._context.files.get(dataset_name)) is not None:
            self._notify(lambda callback: callback.on_file_saved(path))
        if isinstance(data, Started | Progress | Checkpoint):
            self._notify_event(data)
        elif isinstance(data, Mapping):
            self._notify_shared(data, is_new=True)
            self._notify_result(data)
        elif _is_figure(data):
            is_of_training = _reads_training(self._context.catalog, node)
            self._notify(lambda callback: callback.on_figure(dataset_name, data, is_of_training=is_of_training))
        else:
            self._notify_shared(data, is_new=True)
            self._notify_object(dataset_name, data)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the callbacks."""
        _running.clear()
        self._notify(lambda callback: callback.on_run_end())

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the callbacks of a run that failed."""
        _running.clear()
        self._notify(lambda callback: callback.on_run_error(error))

    def interrupt(self) -> None:
        """Announce that the process is about to end."""
        _running.clear()
        self._notify(lambda callback: callback.on_interrupt())

    def _start(self, callback: Callback, context: RunContext) -> None:
        try:
            self._active.append(callback)
            if callback.is_enabled(context):
                callback.on_run_start(context)
            else:
                self._active.remove(callback)
        except Exception as err:  # an optional callback is no reason to stop a run
            if callback.is_required:
                self._active.remove(callback)
                raise
            self._disable(callback, err)

    def _close_all(self) -> None:
        while self._active:
            with contextlib.suppress(Exception):
                self._active.pop().on_disabled()

    def _notify(self, notify: Callable[[Callback], None]) -> None:
        for callback in reversed(self._active.copy()):
            try:
                notify(callback)
            except Exception as err:  # what shows or copies a run is no reason to stop it
                self._disable(callback, err)

    def _disable(self, callback: Callback, err: Exception) -> None:
        try:
            self._active.remove(callback)
        except ValueError:  # the thread that writes checkpoints was first
            return
        text = " ".join(str(err).split())
        _log.warning("%s is off for the rest of this run: %s: %s", callback.name, type(err).__name__, text)
        with contextlib.suppress(Exception):
            callback.on_disabled()

    def _on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        self._notify(lambda callback: callback.on_checkpoint(folder, checkpoint))

    def _notify_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._notify(lambda callback: callback.on_progress(event))
        elif isinstance(event, Started):
            self._notify(lambda callback: callback.on_started(event))
        # A checkpoint is being written: the dataset announces it when it is durable.

    def _notify_shared(self, data: object, *, is_new: bool) -> None:
        """Announce what later commands read again: the validation report and the prepared data."""
        from transformer_foundry.core.data.tokenized.dataset import TokenSplits

        if isinstance(data, TokenSplits):
            self._notify(lambda callback: callback.on_token_splits(data, is_new=is_new))
        elif is_result(data, ValidationReport):
            self._notify(lambda callback: callback.on_validation(data, is_new=is_new))
        elif is_result(data, DataProfile):
            self._notify(lambda callback: callback.on_data_profile(data, is_new=is_new))

    def _notify_result(self, data: Mapping[str, Any]) -> None:
        if is_result(data, Evaluation):
            self._notify(lambda callback: callback.on_evaluation(data))
        elif is_result(data, Samples):
            self._notify(lambda callback: callback.on_samples(data))
        elif is_result(data, ErrorAnalysis):
            self._notify(lambda callback: callback.on_error_analysis(data))
        elif is_result(data, SearchComparison):
            self._notify(lambda callback: callback.on_search_comparison(data))
        elif is_result(data, ModelComparison):
            self._notify(lambda callback: callback.on_model_comparison(data))
        elif is_result(data, HubPublication):
            self._notify(lambda callback: callback.on_publication(data))

    def _notify_object(self, dataset_name: str, data: object) -> None:
        from transformer_foundry.core.experiments.tuning import TrialResult
        from transformer_foundry.core.publishing import Package
        from transformer_foundry.datasets import PackageDataset

        assert self._context is not None
        if isinstance(data, TrialResult):
            self._notify(lambda callback: callback.on_trial(data))
        elif isinstance(data, Package):
            dataset = find_dataset(self._context.catalog, {dataset_name}, PackageDataset)
            # Saving has moved the folder that the package was built in.
            package = data if dataset is None else dataclasses.replace(data, folder=dataset.folder)
            self._notify(lambda callback: callback.on_package(package))


def report_interrupted() -> None:
    """Announce that Ctrl-C or SIGTERM has ended the run: Kedro calls its hooks only for an ``Exception``."""
    for hooks in list(_running):
        hooks.interrupt()


def _is_figure(data: object) -> bool:
    """Return whether this is a figure of plotly or matplotlib; imports neither."""
    kind = type(data)
    return kind.__name__ == "Figure" and kind.__module__.partition(".")[0] in ("plotly", "matplotlib")


def _reads_training(catalog: DataCatalog, node: Node) -> bool:
    """Return whether a node reads a training run, a search or a comparison of models."""
    from transformer_foundry.datasets import ComparisonDataset, StudyDataset, TrainingRunDataset

    kinds = (ComparisonDataset, StudyDataset, TrainingRunDataset)
    return any(isinstance(catalog.get(name), kinds) for name in node.inputs)


def _discard_outputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Let a process other than the first keep nothing, and say nothing but errors."""
    logging.disable(logging.WARNING)
    for name in pipeline.outputs():
        catalog[name] = _DiscardDataset()


class _DiscardDataset(AbstractDataset[Any, None]):
    """Drops what is saved; a MemoryDataset would copy each checkpoint."""

    def save(self, data: Any) -> None:
        """Drop ``data``."""

    def load(self) -> None:
        """Return nothing."""

    def _describe(self) -> dict[str, Any]:
        return {}
