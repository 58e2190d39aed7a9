"""Registered pipelines contain what they need; nodes are found by their bare and by their full names."""

from __future__ import annotations

import pytest
from kedro.pipeline import Pipeline

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.pipeline_registry import register_pipelines
from transformer_foundry.pipelines.stages import bare_name

UPSTREAM = {"validation", "data_engineering"}


def stages(pipeline: Pipeline) -> set[str]:
    return {node.namespace or "" for node in pipeline.nodes}


@pytest.mark.parametrize(
    ("name", "contained"),
    [
        ("validation", {"validation"}),
        ("data_engineering", {"data_engineering"}),
        ("training", UPSTREAM | {"training"}),
        ("comparison", UPSTREAM | {"comparison"}),
        ("tuning", UPSTREAM | {"tuning"}),
        ("deployment", UPSTREAM | {"training", "deployment"}),
        ("__default__", UPSTREAM | {"training", "deployment"}),
    ],
)
def test_a_pipeline_contains_the_stages_that_it_needs(name: str, contained: set[str]) -> None:
    assert stages(register_pipelines()[name]) == contained


@pytest.mark.parametrize("stage", ["validation", "data_engineering", "training", "deployment"])
def test_namespace_and_tag_select_the_same_stage(stage: str) -> None:
    pipeline = register_pipelines()["__default__"]
    assert set(pipeline.filter(node_namespaces=[stage]).nodes) == set(pipeline.filter(tags=[stage]).nodes)


@pytest.mark.parametrize("name", ["train_model", "training.train_model"])
@pytest.mark.parametrize("option", ["node_names", "from_nodes", "to_nodes"])
def test_a_node_is_selected_by_its_bare_and_by_its_full_name(option: str, name: str) -> None:
    # Kedro adds the pipelines of a command to an empty one before it filters them.
    chosen = (Pipeline([]) + register_pipelines()["training"]).filter(**{option: [name]})
    assert "training.train_model" in {node.name for node in chosen.nodes}


@pytest.mark.parametrize("option", ["node_names", "from_nodes", "to_nodes"])
def test_a_name_that_two_stages_have_must_be_given_in_full(option: str) -> None:
    from kedro.pipeline import node

    from transformer_foundry.pipelines.stages import stage

    both = stage("one", Pipeline([node(len, "a", "b", name="measure")])) + stage(
        "two", Pipeline([node(len, "b", "c", name="measure")])
    )
    with pytest.raises(ParameterError, match=r"2 nodes are called measure: one\.measure, two\.measure"):
        both.filter(**{option: ["measure"]})


def test_no_two_nodes_of_the_project_have_one_bare_name() -> None:
    for pipeline in register_pipelines().values():
        names = [bare_name(node.name) for node in pipeline.nodes]
        assert len(set(names)) == len(names)


def test_datasets_and_parameters_keep_their_names() -> None:
    assert {"training_run", "params:training"} <= register_pipelines()["training"].datasets()


@pytest.mark.parametrize(("rank", "nodes"), [("0", 4), ("1", 1)])
def test_processes_of_torchrun_only_train(rank: str, nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    training = register_pipelines()["training"]
    assert stages(training) == {"training"}
    assert len(training.nodes) >= nodes
    assert (len(training.nodes) == 1) == (rank == "1")
