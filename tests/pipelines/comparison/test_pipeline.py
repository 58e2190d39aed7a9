"""The comparison pipeline on a catalog in memory, but for the results, which are a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog

from tests.pipelines.memory import run, sample
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.datasets import ComparisonDataset
from transformer_foundry.pipelines import comparison, data_engineering, validation

SHARED = ("model_export", "model_approval", "token_splits")
KEPT = ("comparison", "comparison_figure")
MODEL = "data/01_raw/exports/gpt"
TRAINING = {"max_steps": 1, "per_device_train_batch_size": 2}


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    prepared = validation.create_pipeline() + data_engineering.create_pipeline()
    catalog = run(prepared, {"model_export": sample(), "params:data": {"max_documents": 30}})
    return {name: catalog.load(name) for name in SHARED}


def compare(
    inputs: dict[str, Any], folder: Path, seeds: int = 1, earlier: dict[str, Any] | None = None, **entries: Any
) -> DataCatalog:
    """Compare a model with itself; the results of a session are kept in memory, so each has datasets of its own."""
    names = ("comparison_results", "previous_comparison_results")
    results = {name: ComparisonDataset(filepath=str(folder / "results.jsonl")) for name in names}
    parameters = {"params:training": TRAINING, "params:benchmark": {"models": [MODEL, MODEL], "seeds": seeds}}
    return run(comparison.create_pipeline(), inputs | results | parameters | entries, earlier)


@pytest.fixture(scope="module")
def compared(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataCatalog]:
    """The folder of a finished comparison, and what it has made."""
    folder = tmp_path_factory.mktemp("compared")
    return folder, compare(inputs, folder)


def again(inputs: dict[str, Any], compared: tuple[Path, DataCatalog], seeds: int = 1) -> DataCatalog:
    folder, first = compared
    return compare(inputs, folder, seeds, {name: first.load(name) for name in KEPT})


def test_a_finished_comparison_trains_and_draws_nothing_again(
    inputs: dict[str, Any], compared: tuple[Path, DataCatalog], caplog: pytest.LogCaptureFixture
) -> None:
    folder, first = compared
    trained = (folder / "results.jsonl").read_bytes()
    caplog.set_level(logging.INFO)
    found = again(inputs, compared)
    assert [name for name in KEPT if found.load(name) is not first.load(name)] == []
    assert found.load("comparison_table").equals(first.load("comparison_table"))
    assert (folder / "results.jsonl").read_bytes() == trained
    assert "comparison: up to date (2 trainings of 2 models)." in caplog.messages


def test_another_seed_is_trained_and_drawn(inputs: dict[str, Any], compared: tuple[Path, DataCatalog]) -> None:
    found = again(inputs, compared, seeds=2)
    assert len(found.load("comparison_results")) == 4
    assert [row["seeds"] for row in found.load("comparison")["models"]] == [2, 2]
    assert found.load("comparison_figure") is not compared[1].load("comparison_figure")


def test_a_model_without_a_verdict_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has not been checked"):
        compare(inputs, tmp_path, model_approval=None)
    assert not (tmp_path / "results.jsonl").exists()
