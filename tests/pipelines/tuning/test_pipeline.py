"""The tuning pipeline on a catalog in memory, but for the study, which is a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog

from tests.pipelines.memory import run, sample
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.studies import tuning as core_tuning
from transformer_foundry.datasets import StudyDataset
from transformer_foundry.pipelines import data_engineering, tuning, validation

SHARED = ("model_export", "model_approval", "token_splits")
RESULTS = ("best_parameters", "search_comparison")
TRAINING = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.5}  # the default loses
TUNING = {
    "n_trials": 2, "max_steps": 2, "evals_per_trial": 1, "sampler": "random", "pruner": "none", "confirm_seeds": 1,
    "space": {"learning_rate": {"type": "float", "low": 0.001, "high": 0.5, "log": True}},
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    prepared = validation.create_pipeline() + data_engineering.create_pipeline()
    catalog = run(prepared, {"model_export": sample(), "params:data": {"max_documents": 30}})
    return {name: catalog.load(name) for name in SHARED}


def search(inputs: dict[str, Any], folder: Path, earlier: dict[str, Any] | None = None, **changes: Any) -> DataCatalog:
    studies = {name: StudyDataset(filepath=str(folder / "study.db")) for name in ("study", "previous_study")}
    parameters = {"params:training": TRAINING, "params:tuning": TUNING | changes}
    return run(tuning.create_pipeline(), inputs | studies | parameters, earlier)


@pytest.fixture(scope="module")
def searched(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished search, and its results as those of an earlier command."""
    folder = tmp_path_factory.mktemp("search")
    catalog = search(inputs, folder)
    return folder, {name: catalog.load(name) for name in RESULTS}


def test_the_best_parameters_name_their_model_and_data(inputs: dict[str, Any], searched: Any) -> None:
    best = searched[1]["best_parameters"]
    assert best["parameters"].keys() == {"learning_rate"}
    assert (best["model"], best["data"]) == (sample().identity, inputs["token_splits"].fingerprint)


def test_a_finished_search_is_not_confirmed_again(
    inputs: dict[str, Any], searched: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, earlier = searched
    confirmed: list[Any] = []
    monkeypatch.setattr(core_tuning, "make_full_training", lambda *rest, **_: confirmed.append(rest))
    caplog.set_level(logging.INFO)
    again = search(inputs, folder, earlier)
    assert [name for name in RESULTS if again.load(name) is not earlier[name]] == []
    assert confirmed == []
    assert any(message.startswith("tuning: up to date (2 trials, made ") for message in caplog.messages)


@pytest.mark.parametrize("change", [{"confirm_seeds": 2}, {"confirm_steps": 3}])
def test_another_comparison_with_the_default_is_made_again(
    inputs: dict[str, Any], searched: Any, change: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    folder, earlier = searched
    caplog.set_level(logging.INFO)
    again = search(inputs, folder, earlier, **change)
    assert again.load("search_comparison")["made_from"] != earlier["search_comparison"]["made_from"]
    assert "tuning: made again, because of other settings." in caplog.messages


def test_a_model_without_a_verdict_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has not been checked"):
        search(inputs | {"model_approval": None}, tmp_path)
