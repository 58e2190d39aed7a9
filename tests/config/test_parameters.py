"""Parameters: sections, the default name of a run, and what is refused before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.config.parameters import complete_parameters, default_run_name
from transformer_foundry.core.base.errors import ParameterError

CONF = Path(__file__).parents[2] / "conf"


def load(env: str = "local", **runtime: Any) -> FoundryConfigLoader:
    return FoundryConfigLoader(
        conf_source=str(CONF),
        env=env,
        runtime_params=runtime,
        base_env="base",
        default_run_env="local",
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/01_raw/exports/gpt", "gpt"),
        ("exports/my model/", "my-model"),
        ("models/bert.zip", "bert"),
        ("https://gist.github.com/me/0123456789abcdef0123", "0123456789abcdef0123"),
        ("///", "run"),
    ],
)
def test_a_run_is_named_after_its_model(source: str, name: str) -> None:
    assert default_run_name(source) == name


def test_a_name_that_was_given_is_kept() -> None:
    completed = complete_parameters({"run": {"name": "mine"}, "model": {"source": "x/gpt"}})
    assert completed["run"] == {"name": "mine", "preparation": "mine"}


def test_a_run_with_the_best_parameters_is_named_best_and_uses_the_preparation_of_the_default_run() -> None:
    completed = complete_parameters({"training": {"use_best": True}, "model": {"source": "x/gpt"}})
    assert completed["run"] == {"name": "gpt-best", "preparation": "gpt"}


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "x" * 101])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=r"run\.name"):
        complete_parameters({"run": {"name": name}})


@pytest.mark.parametrize("preset", ["quick", "standard", "thorough"])
def test_every_preset_is_valid(preset: str) -> None:
    parameters = load(preset=preset)["parameters"]
    assert parameters["run"]["name"] == "gpt"
    assert parameters["training"]["max_steps"] >= 100


def test_paths_of_the_catalog_follow_the_parameters() -> None:
    loader = load(data_dir="elsewhere", run={"name": "mine"})
    assert loader["catalog"]["training_run"]["filepath"] == "elsewhere/06_models/mine"


def test_a_revision_reaches_the_catalog_and_may_be_null() -> None:
    sha = "a" * 40
    assert load(model={"revision": sha})["catalog"]["model_export"]["revision"] == sha
    assert load()["catalog"]["model_export"]["revision"] is None


def test_a_command_works_from_any_folder_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF)
    parameters = load()["parameters"]
    assert parameters["data_dir"] == str(CONF.parent / "data")
    assert parameters["model"]["source"] == str(CONF.parent / "data/01_raw/exports/gpt")


def test_compared_models_are_found_from_any_folder_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF)
    found = load(benchmark={"models": ["data/01_raw/exports/gpt", "llama"]})["parameters"]["benchmark"]["models"]
    assert found == [str(CONF.parent / "data/01_raw/exports/gpt"), "llama"]


@pytest.mark.parametrize("given", [{"model": {"init_from": "old"}}, {"run": {"fork_from": "old"}},
                                   {"training": {"use_best": True}}])  # fmt: skip
def test_models_are_not_compared_with_what_one_of_them_has_learned(given: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"and benchmark\.models is"):
        load(benchmark={"models": ["gpt2", "llama"]}, **given)["parameters"]


def test_the_newest_session_decides_which_parameters_the_catalog_reads() -> None:
    first, second = load(run={"name": "one"}), load(run={"name": "two"})
    assert second["catalog"]["training_run"]["filepath"].endswith("two")
    assert first["catalog"]["training_run"]["filepath"].endswith("one")


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ({"training": {"learning_rat": 1}}, "Did you mean 'training.learning_rate'"),
        ({"training": {"learning_rate": -1}}, "above 0"),
        ({"training": {"max_steps": 0}}, "at least 1"),
        ({"data_dir": 7}, "data_dir is 7"),
        ({"training": 5}, "training is 5"),
    ],
)
def test_bad_runtime_parameters_are_refused_when_they_are_read(runtime: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        load(**runtime)["parameters"]


def test_a_variable_of_the_environment_in_the_parameters_is_refused_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    (conf / "local" / "parameters.yml").write_text("training:\n  seed: ${oc.env:SEED}\n")
    monkeypatch.setenv("SEED", "3")
    with pytest.raises(ParameterError, match=r"Kedro reads the environment in credentials\.yml only") as caught:
        FoundryConfigLoader(str(conf), base_env="base", default_run_env="local")["parameters"]
    assert "training" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
