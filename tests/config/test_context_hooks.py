"""Every Kedro context makes the same decisions: the comparison in place of training, what runs, the project's paths."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline
from kedro.pipeline import pipeline as kedro_pipeline

from transformer_foundry.config.context_hooks import ContextHooks, replace_training, use_token, what_runs
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.pipelines import training

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    bootstrap_project(PROJECT)
    yield
    replace_training(by_comparison=False)


def context(**arguments: Any) -> KedroContext:
    return KedroSession.create(project_path=PROJECT, **arguments).load_context()


def names(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


def test_a_session_with_models_to_compare_compares_them_and_the_next_one_does_not() -> None:
    before = {name: names(pipelines[name]) for name in pipelines}
    context(runtime_params={"benchmark": {"models": ["gpt2", "llama"]}})
    assert names(pipelines["training"]) == names(pipelines["__default__"]) == before["comparison"]
    context()
    assert {name: names(pipelines[name]) for name in pipelines} == before


def test_the_run_of_one_session_leaves_the_pipelines_of_the_others() -> None:
    before = {name: names(pipelines[name]) for name in pipelines}
    context(runtime_params={"benchmark": {"models": ["gpt2", "llama"]}})
    next(ContextHooks().before_pipeline_run({}, pipelines["training"]))
    assert {name: names(pipelines[name]) for name in pipelines} == before


def test_models_to_compare_may_be_set_in_the_configuration(tmp_path: Path) -> None:
    conf = Path(shutil.copytree(PROJECT / "conf", tmp_path / "conf"))
    (conf / "local" / "parameters_benchmark.yml").write_text("benchmark: {models: [gpt2, llama]}\n")
    context(conf_source=str(conf))
    assert names(pipelines["training"]) == names(pipelines["comparison"])


def test_local_values_change_single_keys_of_a_section(tmp_path: Path) -> None:
    conf = Path(shutil.copytree(PROJECT / "conf", tmp_path / "conf"))
    (conf / "local" / "parameters.yml").write_text("tuning: {confirm_steps: 7}\n")
    tuning = context(conf_source=str(conf)).params["tuning"]
    assert (tuning.confirm_steps, tuning.n_trials) == (7, 12)


def test_results_stay_in_the_project_when_the_configuration_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = Path(shutil.copytree(PROJECT / "conf", tmp_path / "deploy" / "conf"))
    monkeypatch.chdir(PROJECT / "docs")
    parameters = context(conf_source=str(conf)).params
    assert parameters["data_dir"] == str(PROJECT / "data")
    assert parameters["model"].source == str(PROJECT / "data/01_raw/exports/gpt")


def test_a_wrong_environment_of_a_session_is_refused() -> None:
    with pytest.raises(ParameterError, match="no environment 'nosuch'"):
        context(env="nosuch")


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({}, "validation, data_engineering, training, deployment"),
        ({"node_names": ["draw_curves"]}, "draw_curves"),
        ({"tags": ["training"]}, "training"),
        ({"node_namespaces": ["validation", "data_engineering"]}, "validation, data_engineering"),
        ({"to_nodes": ["judge_model"]}, "validation"),
        ({"from_nodes": ["evaluate_model"], "tags": ["training"]}, "evaluate_model"),
    ],
)
def test_what_runs_is_named_by_whole_pipelines_or_single_nodes(chosen: dict[str, Any], said: str) -> None:
    assert what_runs(pipelines["__default__"].filter(**chosen), pipelines) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_stepz": 3}, r"Unknown parameter second\.training\.max_stepz .*'max_steps'"),
        ({"seed": "x"}, r"second\.training\.seed is 'x'(.|\n)*--params second\.training\.seed=VALUE"),
    ],
)
def test_a_wrong_parameter_of_a_pipeline_with_a_namespace_is_named_with_it(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], said: str
) -> None:
    second = kedro_pipeline(training.create_pipeline(), namespace="second", parameters={"params:model"})
    monkeypatch.setitem(pipelines, "second", second)
    with pytest.raises(ParameterError, match=said) as caught:
        context(runtime_params={"second": {"training": values}})
    assert len(str(caught.value).splitlines()) == 3


def test_the_token_in_the_credentials_is_used_by_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    use_token({"credentials": {"huggingface": {"token": "hf_one"}}})
    assert os.environ["HF_TOKEN"] == "hf_one"
    use_token({"credentials": {}})
    assert "HF_TOKEN" not in os.environ
    monkeypatch.setenv("HF_TOKEN", "hf_own")
    use_token({"credentials": {"huggingface": {"token": "hf_one"}}})
    assert os.environ["HF_TOKEN"] == "hf_own"
