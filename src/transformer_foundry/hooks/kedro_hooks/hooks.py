"""The Kedro hooks of the project: find the run that an event of Kedro belongs to, and call its callbacks."""

from __future__ import annotations

import atexit
import copy
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from transformer_foundry.core.training.events import Started
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.kedro_hooks.announcement import (
    announce_loaded,
    announce_saved,
    is_drawing,
    is_event,
    is_figure,
    reads_training,
)
from transformer_foundry.hooks.kedro_hooks.earlier_outputs import supply_earlier
from transformer_foundry.hooks.kedro_hooks.fixed_path import advise_another_path
from transformer_foundry.hooks.kedro_hooks.free_inputs import complete_inputs
from transformer_foundry.hooks.kedro_hooks.registered_package import follow_packages
from transformer_foundry.hooks.kedro_hooks.run_callbacks import RunCallbacks
from transformer_foundry.hooks.preflight.chosen_run import announce_catalog
from transformer_foundry.hooks.run_context import RunContext, make_run_contexts
from transformer_foundry.hooks.run_context.sections import name_parameters, names_of_run, node_of

__all__ = ["KedroHooks", "report_interrupted"]

_running: list[KedroHooks] = []
"""The hooks of the pipeline that runs; none before its start and after its end."""


class KedroHooks:
    """Calls callbacks, found by the type of what is saved and never by the name of a catalog entry.

    A pipeline that works on several training runs gets a set of callbacks for each: the first the given ones, the
    others shallow copies. What is made for several runs is announced to each of them.

    Args:
        callbacks: The callbacks, in any order: they nest by ``Callback.nesting``.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = sorted(callbacks, key=lambda callback: callback.nesting)
        self._config: Mapping[str, Any] = {}
        self._project: Path | None = None
        self._runs: list[RunCallbacks] = []
        self._runs_of: Mapping[str, list[RunCallbacks]] = {}
        self._catalog = DataCatalog()
        self._loaded: dict[str, list[object]] = defaultdict(list)
        self._saved: set[str] = set()
        self._is_new_entry: dict[str, bool] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the configuration."""
        self._config, self._project = context.config_loader, context.project_path

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog, save_version: str | None) -> None:
        """Say which run a catalog is of that is loaded in a notebook or by a command; a run says so when it starts."""
        choice = getattr(self._config, "run_choice", None)
        if save_version is None and choice is not None and choice.name != choice.stem and "__default__" in pipelines:
            default = pipelines["__default__"]
            announce_catalog(make_run_contexts(self._config, {}, default, catalog, self._project)[0])

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the callbacks, before other hooks open anything: a run may be refused.

        Raises:
            FoundryError: If a callback refuses the run, or the catalog has no entry for an input.
        """
        self._close()  # an interrupted run of this notebook
        complete_inputs(pipeline, catalog)
        if run_params.get("only_missing_outputs"):
            follow_packages(pipeline, catalog)
        contexts = make_run_contexts(self._config, run_params, pipeline, catalog, self._project)
        self._catalog = catalog
        self._saved.clear()
        self._loaded.clear()
        self._is_new_entry.clear()
        self._runs = [RunCallbacks(context, self._callbacks_of(number)) for number, context in enumerate(contexts)]
        self._runs_of = {
            node.name: [run for run in self._runs if node in run.context.nodes] or self._runs[:1]
            for node in pipeline.nodes
        }
        try:
            for run in self._runs:
                run.check()
            for run in self._runs:
                run.start()
        except BaseException as err:  # Kedro announces no error of this hook: what has started closes what it opened
            advise_another_path(err, contexts)
            self._close()
            raise
        if contexts[0].is_main_process:
            _running[:] = [self]
            atexit.register(self._end_process)  # Ctrl-C ends the program of another project without a call of hooks
        else:
            _discard_outputs(pipeline, catalog)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog) -> dict[str, Any] | None:
        """Announce a node, once: to the first of the runs that it works for. Give it its earlier results."""
        for run in self._of(node)[:1]:
            run.notify(lambda callback: callback.on_node_start(node))
        return supply_earlier(node, catalog, self._loaded[node.name].append)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: object, node: Node) -> None:
        """Announce a result of an earlier command, once."""
        if node.outputs:
            self._loaded[node.name].append(data)
        for run in self._of(node):
            if run.is_first_sight(dataset_name):
                announce_loaded(run.notify, data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: object, node: Node) -> None:
        """Announce what was saved."""
        is_new = self._is_new(data, node)
        self._saved.add(dataset_name)
        if not is_drawing(data):
            self._is_new_entry[dataset_name] = is_new
        if self._saved.issuperset(node.outputs):
            self._loaded.pop(node.name, None)
        runs = self._of(node)
        if runs and (path := runs[0].context.files.get(dataset_name)) is not None:
            runs[0].notify(lambda callback: callback.on_file_saved(path))
        for run in runs:
            run.is_first_sight(dataset_name)
            if dataset_name in run.context.results:
                run.context.saved[dataset_name] = data
            announce_saved(
                run.notify,
                data,
                name=dataset_name.rpartition(".")[2],
                dataset=self._catalog.get(dataset_name),
                is_new=is_new,
                after=is_figure(data) and reads_training(self._catalog, node),
            )

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """End the callbacks."""
        _running.clear()
        for run in reversed(self._runs):
            run.end(lambda callback: callback.on_run_end())
        self._forget()

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """End the callbacks of a run that failed."""
        _running.clear()
        if (node := node_of(error)) is not None:
            name_parameters(error, names_of_run([node]))
        advise_another_path(error, [run.context for run in self._runs])
        for run in reversed(self._runs):
            run.end(lambda callback: callback.on_run_error(error))
        self._forget()

    def check(self, context: RunContext) -> None:
        """Have required callbacks refuse a run that cannot succeed, as they do before it starts.

        Raises:
            FoundryError: If one refuses it.
        """
        RunCallbacks(context, self._callbacks).check()

    def interrupt(self) -> None:
        """Announce that the process is about to end."""
        _running.clear()
        for run in reversed(self._runs):
            run.interrupt()

    def _callbacks_of(self, number: int) -> list[Callback]:
        return self._callbacks if number == 0 else [copy.copy(callback) for callback in self._callbacks]

    def _of(self, node: Node) -> list[RunCallbacks]:
        return self._runs_of.get(node.name, self._runs[:1])

    def _is_new(self, data: object, node: Node) -> bool:
        """Return whether this command has made ``data``; a node may return what it has loaded: it still fits."""
        if is_event(data):
            return not isinstance(data, Started)  # nothing may be left to train
        if any(_is_same(data, loaded) for loaded in self._loaded.get(node.name, ())):
            return False
        if is_drawing(data):  # what is drawn again is as new as what it shows
            shown = self._is_new_entry.keys() & {*node.inputs, *node.outputs}
            return any(map(self._is_new_entry.get, shown)) if shown else not reads_training(self._catalog, node)
        return True

    def _close(self) -> None:
        for run in reversed(self._runs):
            run.close()
        self._forget()

    def _end_process(self) -> None:
        report_interrupted()
        self._close()

    def _forget(self) -> None:
        atexit.unregister(self._end_process)
        self._runs, self._runs_of = [], {}
        self._loaded.clear()


def report_interrupted() -> None:
    """Announce that Ctrl-C or SIGTERM has ended the run: Kedro calls its hooks only for an ``Exception``."""
    for hooks in list(_running):
        hooks.interrupt()


def _is_same(data: object, loaded: object) -> bool:
    if data is loaded or not isinstance(data, dict):
        return data is loaded
    try:
        return bool(data == loaded)
    except ValueError:  # arrays
        return False


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
