"""Let kedro-viz show the status of the last run, without an event for every step of a training."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import pluggy
from kedro.framework.hooks import hook_impl, specs
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.utils import find_kedro_project

from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.system.process import is_main_process

__all__ = ["VizStatusHooks"]

_log = logging.getLogger(__name__)

_FILTERS = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs", "namespaces")


class VizStatusHooks:
    """Passes Kedro's events on to the hooks of kedro-viz, of a generator node's output only the first item.

    Kedro-viz records every save: a training of 5,000 logged steps would write 0.7 MB to ``.viz``. Its own hooks are
    switched off in ``settings.py``, so that it sees what is passed on.
    """

    def __init__(self) -> None:
        self._viz: pluggy.PluginManager | None = None
        self._saved: set[tuple[str, str]] = set()

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start to record."""
        self._viz, self._saved = None, set()
        if is_main_process() and _is_followed(run_params) and find_kedro_project(Path.cwd()) is not None:
            self._viz = _hooks_of_viz()
            self._pass_on("after_catalog_created", catalog=catalog)
            self._pass_on("before_pipeline_run", run_params={**run_params, "runner": None}, pipeline=pipeline)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Record that a node starts."""
        self._pass_on("before_node_run", node=node)

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str, node: Node) -> None:
        """Record what is being loaded, in case that fails."""
        self._pass_on("before_dataset_loaded", dataset_name=dataset_name, node=node)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: object, node: Node) -> None:
        """Record what was loaded."""
        self._pass_on("after_dataset_loaded", dataset_name=dataset_name, data=data, node=node)

    @hook_impl
    def before_dataset_saved(self, dataset_name: str, data: object, node: Node) -> None:
        """Record what is being saved, in case that fails."""
        if (node.name, dataset_name) not in self._saved:
            self._pass_on("before_dataset_saved", dataset_name=dataset_name, data=data, node=node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: object, node: Node) -> None:
        """Record what was saved, the first time."""
        if (node.name, dataset_name) not in self._saved:
            self._saved.add((node.name, dataset_name))
            self._pass_on("after_dataset_saved", dataset_name=dataset_name, data=data, node=node)

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Record how long a node took."""
        self._pass_on("after_node_run", node=node)

    @hook_impl
    def on_node_error(self, error: Exception, node: Node) -> None:
        """Record where a run failed."""
        self._pass_on("on_node_error", error=error, node=node)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Write the record."""
        self._pass_on("after_pipeline_run")
        self._viz = None

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Write the record of a run that failed."""
        self._pass_on("on_pipeline_error", error=error)
        self._viz = None

    def _pass_on(self, event: str, **arguments: Any) -> None:
        if self._viz is None:
            return
        hook = getattr(self._viz.hook, event)
        names = hook.spec.argnames
        try:
            hook(**{name: arguments.get(name) for name in names})
        except Exception as err:  # what kedro-viz shows is no reason to stop a run
            _log.warning("Kedro-viz does not record this run: %s: %s", type(err).__name__, error_message(err))
            self._viz = None


def _is_followed(run_params: dict[str, Any]) -> bool:
    """Return whether kedro-viz follows such a run: whole pipelines, one node after the other; it warns of others."""
    runner = str(run_params.get("runner"))
    return (runner == "None" or "SequentialRunner" in runner) and not any(run_params.get(name) for name in _FILTERS)


def _hooks_of_viz() -> pluggy.PluginManager | None:
    """Return new hooks of kedro-viz: its own instances keep the events of every run of a process."""
    with contextlib.suppress(ImportError):
        from kedro_viz.integrations.kedro.hooks import DatasetStatsHook  # type: ignore[import-untyped]
        from kedro_viz.integrations.kedro.run_hooks import PipelineRunStatusHook  # type: ignore[import-untyped]

        manager = pluggy.PluginManager("kedro")
        for kind in (specs.DataCatalogSpecs, specs.NodeSpecs, specs.PipelineSpecs, specs.DatasetSpecs):
            manager.add_hookspecs(kind)
        for plugin in (PipelineRunStatusHook(), DatasetStatsHook()):
            manager.register(plugin)
        return manager
    return None
