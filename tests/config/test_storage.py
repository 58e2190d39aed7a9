"""Commands find runs and the registry where the catalog keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from transformer_foundry.cli import cli
from transformer_foundry.config import storage
from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.config.storage import Storage, configured_storage

PROJECT = Path(__file__).parents[2]
OURS = "transformer_foundry.datasets"


def write(folder: Path, catalog: str) -> Path:
    """Make a project whose catalog has these entries, and go to it."""
    for env in ("base", "local", "other"):
        (folder / "conf" / env).mkdir(parents=True)
    (folder / "pyproject.toml").write_bytes((PROJECT / "pyproject.toml").read_bytes())
    for name in ("parameters.yml", "globals.yml"):
        (folder / "conf" / "base" / name).write_bytes((PROJECT / "conf" / "base" / name).read_bytes())
    (folder / "conf" / "base" / "catalog.yml").write_text(catalog)
    return folder


def made(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    entries = {
        "training_run": {
            "type": f"{OURS}.TrainingRunDataset",
            "filepath": "${parameters:data_dir}/my/${parameters:run.name}",
        },
        "second.training_run": {"type": f"{OURS}.TrainingRunDataset", "filepath": "second/${parameters:run.name}-2nd"},
        "fixed": {"type": f"{OURS}.TrainingRunDataset", "filepath": "fixed/only"},
        "{side}.training_run": {"type": f"{OURS}.TrainingRunDataset", "filepath": "sides/{side}"},
        "model_registry": {"type": f"{OURS}.RegistryDataset", "filepath": "elsewhere"},
    }
    monkeypatch.chdir(write(tmp_path, json.dumps(entries)))
    return tmp_path


def test_runs_and_registry_are_where_the_catalog_keeps_them(project: Path) -> None:
    paths = ("data/my/gpt", "data/my/bert", "second/gpt-2nd", "fixed/only", "sides/left")
    for path in paths:
        made(project / path)
    (project / "data" / "my" / "notes").mkdir()
    storage = configured_storage()
    assert [str(path) for path in storage.runs()] == sorted(paths)
    assert [str(storage.run(Path(path).name)) for path in paths] == list(paths)
    assert storage.run("new") == Path("data/my/new")
    assert (storage.registry, storage.folder) == (Path("elsewhere"), Path("data/my"))


def test_the_options_of_a_run_choose_where_to_look(project: Path) -> None:
    (project / "conf" / "other" / "parameters.yml").write_text("data_dir: there")
    assert configured_storage(env="other").run("gpt") == Path("there/my/gpt")
    assert configured_storage(params={"data_dir": "here"}).run("gpt") == Path("here/my/gpt")
    assert configured_storage("here").data_dir == "here"


@pytest.mark.parametrize("option", [["--env", "other"], ["--params", "data_dir=there"], ["--data-dir", "there"]])
@pytest.mark.parametrize("command", [["runs", "list"], ["checkpoints", "list", "gpt"]])
def test_commands_take_them(project: Path, command: list[str], option: list[str]) -> None:
    (project / "conf" / "other" / "parameters.yml").write_text("data_dir: there")
    made(project / "there" / "my" / "gpt")
    result = CliRunner().invoke(cli, [*command, *option])
    assert result.exit_code == 0, result.output
    assert "gpt" in result.output


def test_a_catalog_that_cannot_be_read_hides_no_run(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    (project / "conf" / "local" / "parameters.yml").write_text("training: {max_stepz: 3}")
    assert configured_storage().run("gpt") == Path("data/06_models/gpt")
    assert "training.max_stepz" in caplog.text


def test_the_settings_of_the_project_say_where_the_configuration_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "conf").rename(project / "config")
    (project / "config" / "local").rename(project / "config" / "dev")
    (project / "config" / "dev" / "parameters.yml").write_text('data_dir: "two${two:}"')
    arguments = {"base_env": "base", "default_run_env": "dev", "custom_resolvers": {"two": lambda: 2}}
    own = SimpleNamespace(CONF_SOURCE="config", CONFIG_LOADER_CLASS=FoundryConfigLoader, CONFIG_LOADER_ARGS=arguments)
    monkeypatch.setattr(storage, "settings", own)
    assert configured_storage().data_dir == "two2"
    assert configured_storage().patterns[0] == "two2/my/the-name-of-a-run"


def test_without_a_project_runs_are_in_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configured_storage() == Storage("data", ("data/06_models/the-name-of-a-run",), Path("data/registry"))
