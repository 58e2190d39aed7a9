"""Inputs of this project's nodes that the catalog of a project does not have: those that may be missing are None."""

from __future__ import annotations

import logging
from typing import Any

from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from transformer_foundry.config.own_nodes import entry_of
from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.hooks.kedro_hooks.earlier_outputs import supplied_entries
from transformer_foundry.hooks.run_context.flow import function_of

__all__ = ["complete_inputs"]

_log = logging.getLogger(__name__)

_OPTIONAL = "best_parameters"
"""What a node can do without: the values of a search. The verdict on a model is required: "the model has not been
checked" would be said of an entry that has the wrong name."""


def complete_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Give the catalog an entry without a value for what the hooks supply and for what may be missing.

    Kedro would refuse the pipeline without them.

    Args:
        pipeline: The nodes that run.
        catalog: Its entries; those of the optional inputs are added.

    Raises:
        DataError: If the catalog has no entry for another input of one of our nodes.
    """
    # A pattern of the catalog may take them for a file: what the hooks supply is nowhere.
    supplied = {entry for node in pipeline.nodes for entry in supplied_entries(node)}
    for name in sorted(supplied - set(catalog.keys())):
        catalog[name] = _AbsentDataset()
    free = sorted(name for name in pipeline.inputs() if name not in catalog)
    readers = {name: [node for node in pipeline.nodes if name in node.inputs] for name in free}
    optional = [name for name in free if all(entry_of(node, _OPTIONAL) == name for node in readers[name])]
    missing = [name for name in free if name not in optional and any(map(function_of, readers[name]))]
    if missing:
        raise _refusal(missing, readers[missing[0]][0], catalog)
    for name in optional:
        catalog[name] = _AbsentDataset()
    if optional:
        _log.info("Not in the catalog, so no values of a search are used: %s.", short_list(optional))


def _refusal(missing: list[str], reader: Node, catalog: DataCatalog) -> DataError:
    known = list(catalog.keys())
    what = "parameter" if missing[0].startswith("params:") else "entry"
    place = f"conf/base/{'parameters' if what == 'parameter' else 'catalog'}.yml"
    names = short_list(name.removeprefix("params:") for name in missing)
    return DataError(
        f"There is no {what} {names}, which {reader.name} reads.{suggestion(missing[0], known)}",
        f"Expected it in {place}, or shared with the rest of the pipeline: pipeline(..., inputs=..., parameters=...).",
        f"Add it to {place}; docs/pipelines.md, 'Several trainings in one pipeline', has all that a training needs.",
    )


class _AbsentDataset(AbstractDataset[None, None]):
    """Has no value. A MemoryDataset with None would do, but Kedro reports it as data that a process cannot share."""

    def load(self) -> None:
        """Return nothing."""

    def save(self, data: None) -> None:
        """Keep nothing."""

    def _exists(self) -> bool:
        return False

    def _describe(self) -> dict[str, Any]:
        return {}
