"""Sections of the parameters are complete and of one type wherever they are found, whatever runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines import training

PROJECT = Path(__file__).parents[2]
REGISTERED = ("__default__", "validation", "data_engineering", "training", "comparison", "tuning", "deployment", "mine")


@pytest.fixture(autouse=True)
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project with a pipeline of the user's own."""
    bootstrap_project(PROJECT)
    inputs = ["params:training", "params:training.learning_rate", "parameters"]
    monkeypatch.setitem(pipelines, "mine", pipeline([node(lambda *given: given, inputs, "given", name="mine")]))


def context(**arguments: Any) -> KedroContext:
    return KedroSession.create(project_path=PROJECT, **arguments).load_context()


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROJECT / "conf", tmp_path / "conf"))


@pytest.mark.parametrize("name", REGISTERED)
def test_sections_are_complete_options_in_every_pipeline(name: str) -> None:
    found = context(runtime_params={"training": {"max_steps": 3}})
    found._pipelines_to_validate = None if name == "__default__" else [name]  # as a session does
    catalog = found.catalog
    for section, kind in SECTIONS.items():
        loaded = (found.params[section], catalog.load(f"params:{section}"), catalog.load("parameters")[section])
        assert {type(options) for options in loaded} == {kind}
        assert all(options == dict(options) == dataclasses.asdict(options) for options in loaded)
    assert found.params["training"].max_steps == found.params["training"]["max_steps"] == 3
    assert catalog.load("params:training.learning_rate") == TrainingOptions().learning_rate


def test_every_registered_pipeline_is_tested() -> None:
    assert set(REGISTERED) == set(pipelines)


def test_no_key_hides_a_method_of_mappings() -> None:
    assert not {field.name for kind in SECTIONS.values() for field in dataclasses.fields(kind)} & set(dir(dict))


def test_the_catalog_reads_values_that_no_file_sets(conf: Path) -> None:
    entry = "notes: {type: text.TextDataset, filepath: 'data/${parameters:training.learning_rate,none}.txt'}\n"
    (conf / "local" / "catalog.yml").write_text(entry + "all: {type: MemoryDataset, data: '${parameters:training}'}\n")
    found = context(conf_source=str(conf)).config_loader["catalog"]
    assert found["notes"]["filepath"] == f"data/{TrainingOptions().learning_rate}.txt"
    assert found["all"]["data"]["max_steps"] == 400


def second() -> Pipeline:
    return pipeline(training.create_pipeline(), namespace="second", parameters={"params:model"})


def renamed() -> Pipeline:
    return pipeline(training.create_pipeline(), parameters={"params:training": "params:my_training"})


@pytest.mark.parametrize(("make", "path"), [(second, ("second", "training")), (renamed, ("my_training",))])
@pytest.mark.parametrize("given", [{}, None])
def test_a_section_under_another_name_is_complete_too_and_without_a_value_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, conf: Path, make: Callable[[], Pipeline], path: tuple[str, ...], given: object
) -> None:
    monkeypatch.setitem(pipelines, "other", make())
    (conf / "base" / "parameters_other.yml").write_text("second: {training: {seed: 4}}\nmy_training: {seed: 4}\n")
    values: dict[str, Any] = {path[-1]: given} if len(path) == 1 else {path[0]: {path[1]: given}}
    for arguments in ({"runtime_params": values}, {}):
        if not arguments:
            text = "my_training:" if len(path) == 1 else "second: {training: }"
            (conf / "local" / "parameters_other.yml").write_text(text)
        found: Any = context(conf_source=str(conf), **arguments).params
        for key in path:
            found = found[key]
        assert found == TrainingOptions(seed=4)


def test_a_section_of_the_user_may_have_no_value() -> None:
    assert context(runtime_params={"mine": {"model": None}}).config_loader["parameters"]["mine"] == {"model": None}


@pytest.mark.parametrize("make", [second, renamed])
def test_a_misspelled_key_of_a_section_under_another_name_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Pipeline]
) -> None:
    monkeypatch.setitem(pipelines, "other", make())
    name = "second.training" if make is second else "my_training"
    with pytest.raises(ParameterError, match=rf"Unknown parameter {name}\.learnin_rate .*'learning_rate'"):
        context(runtime_params={f"{name}.learnin_rate": 1})
