"""``kedro example`` copies a model, data and parameters that belong together."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.foundry import PROJECT
from transformer_foundry.cli.project import cli
from transformer_foundry.config.parameters import complete_parameters
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.models import load_model, read_export

TASKS = {
    "countries": "causal_lm",
    "gaps": "masked_lm",
    "questions": "seq2seq_lm",
    "regions": "sequence_classification",
}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def copied(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["example", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["example", *arguments])
    assert done.exit_code == 2
    return done.output + done.stderr


@pytest.mark.parametrize(("name", "task"), TASKS.items())
def test_the_model_of_an_example_fits_its_data(name: str, task: str, tmp_path: Path) -> None:
    import yaml

    folder = tmp_path / name
    assert f"Train it: kedro run --config {folder}/run.yml" in copied(name, str(folder))
    given = complete_parameters(yaml.safe_load((folder / "run.yml").read_text())["run"]["params"])
    contract = load_model(read_export(given["model"]["source"])).contract
    assert contract.task == task
    corpus = read_corpus(DataOptions(**given["data"]), contract.task, contract.num_labels)
    assert corpus.task == task
    assert corpus.assignment.counts["validation"] > 20
    with (folder / "data.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == sum(corpus.assignment.counts.values())


def test_the_model_has_as_many_outputs_as_there_are_regions(tmp_path: Path) -> None:
    copied("regions", str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    with (tmp_path / "data.csv").open(newline="") as file:
        assert len({row["region"] for row in csv.DictReader(file)}) == config["num_labels"]


def test_without_a_name_the_examples_are_listed() -> None:
    assert all(name in copied() for name in TASKS)


def test_another_name_is_refused_with_the_nearest() -> None:
    assert "Did you mean 'regions'" in refused("region")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")
    assert "exists already" in refused("gaps", str(tmp_path))
    assert (tmp_path / "model.py").read_text() == "mine"


def test_outside_a_clone_there_are_no_sample_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "There is no data/01_raw/exports/bert here" in refused("gaps")
    assert list(tmp_path.iterdir()) == []
