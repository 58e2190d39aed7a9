"""Run a pipeline on a small catalog in memory, as another project could."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pluggy
import pytest
from kedro.framework.hooks import hook_impl, specs
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, SequentialRunner

from transformer_foundry.core.models import ModelSource, approve, read_export
from transformer_foundry.hooks.run_context import EARLIER_RESULTS, entry_of
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK


class Kept(MemoryDataset):
    """A value that the runner does not release after its last reader."""

    def _release(self) -> None:
        """Keep the value."""


class _Earlier:
    """Gives each node what its outputs hold from an earlier command, as the hooks of the project do."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self._results = results

    @hook_impl
    def before_node_run(self, node: Node) -> dict[str, Any] | None:
        entry = entry_of(node, EARLIER_RESULTS)
        return None if entry is None else {entry: [self._results.get(name) for name in node.outputs]}


def run(
    pipeline: Pipeline,
    entries: dict[str, Any],
    earlier: Mapping[str, Any] | None = None,
    runner: AbstractRunner | None = None,
) -> DataCatalog:
    """Run ``pipeline`` with values or datasets by name; inputs that are not given are None.

    Parameters are plain mappings, as a project without our configuration gives them.

    Args:
        pipeline: The nodes.
        entries: Inputs, and datasets of outputs.
        earlier: Results of an earlier command by entry; without them the hooks of the project are not there.
        runner: Runs the nodes; one after the other unless given.

    Raises:
        AssertionError: If a node changes the global random generators without the lock that ThreadRunner needs.
    """
    given = dict.fromkeys(pipeline.inputs()) | entries
    parameters = {name: {} for name in pipeline.inputs() if name.startswith("params:")}
    datasets: dict[str, AbstractDataset[Any, Any]] = {
        name: value if isinstance(value, AbstractDataset) else Kept(value, copy_mode="assign")
        for name, value in (given | parameters | entries).items()
    }
    outputs = {name: Kept(copy_mode="assign") for name in pipeline.all_outputs() if name not in datasets}
    catalog = DataCatalog(datasets | outputs)
    manager = None
    if earlier is not None:
        manager = pluggy.PluginManager("kedro")
        for kind in (specs.NodeSpecs, specs.DatasetSpecs):
            manager.add_hookspecs(kind)
        manager.register(_Earlier(earlier))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "setstate", _only_with_lock(random.setstate))
        (runner or SequentialRunner()).run(pipeline, catalog, manager)
    return catalog


def _only_with_lock(set_state: Callable[[Any], None]) -> Callable[[Any], None]:
    def guarded(state: Any) -> None:
        assert RANDOM_LOCK.is_held(), "a node changes the global random generators without RANDOM_LOCK"
        set_state(state)

    return guarded


def sample(name: str = "gpt") -> ModelSource:
    """A bundled model, approved to run."""
    return approve(read_export(f"data/01_raw/exports/{name}"))
