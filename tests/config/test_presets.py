"""Presets lie between conf/base and conf/local, whichever way a run is started."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.training.options import TrainingOptions

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("local")))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def archive(conf: Path) -> Path:
    """Pack a configuration as ``kedro package`` does."""
    return Path(shutil.make_archive(str(conf), "gztar", conf.parent, conf.name))


def loader(conf: Path, strategy: dict[str, str] | None = None, /, **given: Any) -> FoundryConfigLoader:
    return FoundryConfigLoader(str(conf), merge_strategy=strategy, runtime_params=given)


def training(conf: Path, env: str | None = None, **given: Any) -> dict[str, Any]:
    loader = FoundryConfigLoader(str(conf), env=env, runtime_params=given, base_env="base", default_run_env="local")
    return loader["parameters"]["training"]


def test_a_preset_changes_single_keys_of_a_section(conf: Path) -> None:
    assert training(conf, preset="standard")["max_steps"] == 4000
    assert training(conf, preset="standard").keys() >= training(conf).keys()


def test_local_values_and_given_ones_count_on_top_of_a_preset(conf: Path) -> None:
    write(conf / "local" / "parameters.yml", "training: {eval_steps: 7, max_steps: 70}\n")
    found = training(conf, preset="standard", training={"max_steps": 9})
    assert (found["eval_steps"], found["max_steps"], found["learning_rate"]) == (7, 9, 1e-3)


def test_the_preset_may_be_set_in_a_file_and_changed_for_one_run(conf: Path) -> None:
    write(conf / "local" / "parameters.yml", "preset: standard\n")
    assert training(conf)["max_steps"] == 4000
    assert training(conf, preset="thorough")["max_steps"] == 20000
    assert training(conf, preset="quick")["max_steps"] == 400


def test_presets_that_were_environments_keep_the_local_values(conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(conf / "local" / "parameters.yml", "training: {eval_steps: 7}\n")
    with caplog.at_level(logging.INFO):
        found = training(conf, "standard")
    assert (found["eval_steps"], found["max_steps"]) == (7, 4000)
    assert caplog.messages == ["--env standard means --params preset=standard now; conf/local counts on top of it."]


def test_an_environment_of_the_user_keeps_the_meaning_that_kedro_gives_it(conf: Path) -> None:
    write(conf / "local" / "parameters.yml", "training: {eval_steps: 7}\n")
    write(conf / "standard" / "parameters.yml", "training: {max_steps: 5}\n")
    found = training(conf, "standard", preset="thorough")
    assert (found["max_steps"], found.get("eval_steps")) == (5, 500)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_without_a_value_changes_nothing(conf: Path, section: str) -> None:
    write(conf / "local" / "parameters.yml", "training: {max_steps: 7}\nmodel: {source: data/01_raw/exports/bert}\n")
    assert loader(conf, **{section: None})["parameters"] == loader(conf)["parameters"]


def test_a_section_without_a_value_replaces_none_either(conf: Path) -> None:
    before = loader(conf)["parameters"]
    write(conf / "local" / "parameters.yml", "training:\n")
    assert loader(conf, {"parameters": "destructive"})["parameters"] == before


@pytest.mark.parametrize("suffix", [".yml", ".yaml", ".json"])
def test_a_user_may_write_presets(conf: Path, suffix: str) -> None:
    write(conf / "local" / "presets" / f"night{suffix}", '{"training": {"max_steps": 33}}\n')
    assert training(conf, preset="night")["max_steps"] == 33
    assert training(archive(conf), preset="night")["max_steps"] == 33


@pytest.mark.parametrize("is_archive", [False, True])
def test_a_preset_of_an_environment_that_is_not_read_is_refused(conf: Path, is_archive: bool) -> None:
    write(conf / "prod" / "presets" / "night.yml", "training: {max_steps: 33}\n")
    source = archive(conf) if is_archive else conf
    said = "preset is 'night'. It is one of conf/prod, which.*\n.*quick, standard, thorough.\nUse --env prod"
    with pytest.raises(ParameterError, match=said):
        training(source, preset="night")
    assert training(source, "prod", preset="night")["max_steps"] == 33


def test_an_environment_may_be_a_link(conf: Path) -> None:
    (conf / "base").rename(conf.parent / "shared")
    (conf / "base").symlink_to(conf.parent / "shared")
    write(conf / "base" / "parameters_own.yml", "own: {a: 1}\n")
    assert training(conf, preset="standard")["max_steps"] == 4000
    assert loader(conf, own={"a": 2})["parameters"]["own"] == {"a": 2}


def test_a_preset_whose_file_is_gone_is_refused(conf: Path) -> None:
    (conf / "base" / "presets" / "standard.yml").unlink()
    with pytest.raises(ParameterError, match=r"preset is 'standard'.*\n.*: quick, thorough"):
        training(conf, preset="standard")


@pytest.mark.parametrize("with_local", [False, True])
def test_an_archive_is_read_as_the_folder_is(conf: Path, with_local: bool) -> None:
    write(conf / "standard" / "parameters.yml", "training: {max_steps: 5}\n")
    if with_local:
        write(conf / "local" / "parameters.json", '{"own": {"a": 1}, "training": {"max_steps": 7}}')
    else:
        write(conf / "base" / "parameters_own.yml", "own: {a: 1}\n")
    packed = archive(conf)
    assert training(packed, "standard")["max_steps"] == 5
    assert training(packed)["max_steps"] == (7 if with_local else 400)
    assert loader(packed, own={"a": 2})["parameters"]["own"] == {"a": 2}
    with pytest.raises(ParameterError, match=r"no environment 'standart' in .*Did you mean 'standard'"):
        training(packed, "standart")
    with pytest.raises(ParameterError, match="Unknown parameter owm"):
        loader(packed, owm={"a": 2})["parameters"]


@pytest.mark.parametrize(("strategy", "is_kept"), [({}, True), ({"parameters": "destructive"}, False)])
def test_the_strategy_of_merging_in_settings_is_that_of_our_loader(
    conf: Path, strategy: dict[str, str], is_kept: bool
) -> None:
    write(conf / "local" / "parameters.yml", "training: {max_steps: 70}\n")
    found = loader(conf, strategy, preset="standard", training={"seed": 5}, data={"max_documents": 9})["parameters"]
    rate = 1e-3 if is_kept else TrainingOptions().learning_rate
    assert found["training"]["learning_rate"] == rate
    assert (found["training"]["max_steps"], found["training"]["seed"]) == (70, 5)
    assert found["data"]["max_documents"] == 9  # no file of conf/local has this section


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_a_section_without_keys_changes_nothing(conf: Path, preset: str) -> None:
    expected = training(conf, preset=preset)
    write(conf / "local" / "parameters.yml", "training:\n  # max_steps: 5\n")
    assert training(conf, preset=preset) == expected


def test_a_preset_counts_in_the_environment_base_too(conf: Path) -> None:
    assert training(conf, "base", preset="standard")["max_steps"] == 4000


@pytest.mark.parametrize("name", ["standart", 3, None, "../standard"])
def test_an_unknown_preset_is_refused_with_the_known_ones(conf: Path, name: Any) -> None:
    with pytest.raises(ParameterError, match="Expected one of: quick, standard, thorough"):
        training(conf, preset=name)


@pytest.mark.parametrize(("env", "nearest"), [("standart", "standard"), ("locl", "local"), ("bse", "base")])
def test_an_unknown_environment_is_refused_with_the_nearest_name(conf: Path, env: str, nearest: str) -> None:
    (conf / "local").mkdir()
    with pytest.raises(ParameterError, match=f"no environment '{env}'.*Did you mean '{nearest}'"):
        training(conf, env)


def test_a_missing_configuration_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="There is no configuration in"):
        training(tmp_path / "conf")


def test_settings_with_other_arguments_of_the_loader_keep_kedros_environments(conf: Path) -> None:
    write(conf / "local" / "parameters.yml", "training: {max_steps: '${three:}'}\n")
    loader = FoundryConfigLoader(str(conf), custom_resolvers={"three": lambda: 3})
    assert (loader["parameters"]["training"]["max_steps"], loader.base_env) == (3, "base")


def test_dotted_names_of_a_session_are_those_of_a_section(conf: Path) -> None:
    loader = FoundryConfigLoader(str(conf), runtime_params={"training.max_steps": 3, "training": {"seed": 5}})
    assert [loader["parameters"]["training"][name] for name in ("max_steps", "seed")] == [3, 5]
    with pytest.raises(ParameterError, match=r"training\.seed is given twice: 5 and 6"):
        FoundryConfigLoader(str(conf), runtime_params={"training": {"seed": 5}, "training.seed": 6})


def test_a_dotted_name_in_a_file_is_refused_with_how_to_write_it(conf: Path) -> None:
    write(conf / "local" / "parameters.yml", "training.max_steps: 3\n")
    with pytest.raises(ParameterError, match="Write 'training:' and, indented below it, 'max_steps: 3'"):
        training(conf)


def test_what_no_file_sets_can_be_given_on_the_command_line(tmp_path: Path) -> None:
    for env in ("base", "local"):
        (tmp_path / "conf" / env).mkdir(parents=True)
    (tmp_path / "conf" / "base" / "catalog.yml").write_text("{}")
    given = {"data_dir": str(tmp_path / "data"), "training": {"max_steps": 3}}
    loader = FoundryConfigLoader(str(tmp_path / "conf"), base_env="base", default_run_env="local", runtime_params=given)
    assert loader["parameters"]["data_dir"] == str(tmp_path / "data")
    assert loader["parameters"]["training"]["max_steps"] == 3
