"""``kedro models``: what a user types and reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.core.publishing.registry.test_registry import package
from transformer_foundry.cli import cli
from transformer_foundry.core.publishing import Registry


@pytest.fixture
def data(tmp_path: Path) -> Path:
    registry = Registry(tmp_path / "data" / "registry")
    registry.register(package(tmp_path / "a", 2.0), run="first")
    registry.register(package(tmp_path / "b", 1.5), run="second")
    return tmp_path / "data"


def kedro(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--data-dir", str(data)])


def test_models_are_listed_promoted_and_rolled_back(data: Path) -> None:
    assert kedro(data, "models", "promote", "gpt:1").output == "gpt:1 is now production.\n"
    assert kedro(data, "models", "promote", "gpt:2").output == "gpt:2 is now production (before: version 1).\n"
    lines = kedro(data, "models", "list").output.splitlines()
    assert [line.split()[0] for line in lines] == ["model", "gpt:1", "gpt:2"]
    assert "candidate,production" in lines[2]
    assert kedro(data, "models", "rollback", "gpt").output.startswith("gpt:1 is production again")
    assert "run: first" in kedro(data, "models", "show", "gpt@production").output


def test_a_damaged_model_is_shown_as_damaged(data: Path) -> None:
    assert "warning:" not in kedro(data, "models", "show", "gpt:1").output
    (weights,) = (data / "registry/gpt/v1").glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(bytes(len(content)))
    marked = [
        ["DAMAGED" in line for line in kedro(data, "models", "list", *options).output.splitlines()]
        for options in ([], ["--verify"])
    ]
    assert marked == [[False, False, False], [False, True, False]]
    weights.unlink()
    shown = kedro(data, "models", "show", "gpt:1").output
    assert "run: first" in shown
    assert "warning: model.safetensors" in shown
    assert "Deploy its run again where its checkpoints are" in " ".join(shown.split())
    lines = kedro(data, "models", "list").output.splitlines()
    assert ["DAMAGED" in line for line in lines] == [False, True, False]


def test_a_worse_model_is_refused_with_the_figures(data: Path) -> None:
    kedro(data, "models", "promote", "gpt:2")
    refused = kedro(data, "models", "promote", "gpt:1")
    assert refused.exit_code == 2
    assert "gpt:1 is not better than gpt:2: loss 2 against 1.5." in refused.output
    assert "--force" in refused.output


def test_two_models_are_compared_on_the_same_data(data: Path) -> None:
    output = kedro(data, "models", "compare", "gpt:1", "gpt:2").output
    assert "loss      2      1.5" in output
    assert "on the same test data." in output


def test_publishing_without_a_token_says_which_and_how(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", str(data / "none"))
    folder = data / "registry" / "gpt" / "v1"
    refused = CliRunner().invoke(cli, ["hub", "publish", str(folder), "alice/gpt"])
    assert refused.exit_code == 2
    assert "There is no token for alice/gpt." in refused.output
    assert f"kedro hub publish {folder} alice/gpt" in refused.output
