"""Inputs that the catalog of a project does not have."""

from __future__ import annotations

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.hooks.kedro_hooks.free_inputs import complete_inputs
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation

STAGES = (comparison, data_engineering, deployment, training, tuning, validation)


def catalog_without(names: set[str], *stages: object) -> DataCatalog:
    entries = {name for stage in stages for name in pipeline(stage.create_pipeline(), namespace="mine").inputs()}
    return DataCatalog({name: MemoryDataset(1) for name in entries - names})


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_results_of_earlier_commands_without_an_entry_are_none(stage: object) -> None:
    mine = pipeline(stage.create_pipeline(), namespace="mine")
    optional = {name for name in mine.inputs() if name.endswith(("earlier_results", "best_parameters"))}
    catalog = catalog_without(optional, stage)
    complete_inputs(mine, catalog)
    assert all(name in catalog and catalog.load(name) is None for name in optional)


@pytest.mark.parametrize("entry", ["mine.previous_run", "mine.model_approval", "params:mine.training"])
def test_what_a_node_needs_is_refused_by_name(entry: str) -> None:
    with pytest.raises(DataError, match=entry.removeprefix("params:")) as caught:
        complete_inputs(pipeline(training.create_pipeline(), namespace="mine"), catalog_without({entry}, training))
    assert len(str(caught.value).splitlines()) <= 3


def test_inputs_of_nodes_of_the_project_itself_are_left_to_kedro() -> None:
    catalog = DataCatalog()
    own = node(lambda earlier_results: earlier_results, "earlier_results", "y", name="own")
    complete_inputs(pipeline([own]), catalog)
    assert "earlier_results" not in catalog
