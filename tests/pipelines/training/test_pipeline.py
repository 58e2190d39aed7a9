"""The training pipeline on a catalog in memory, but for the run, which is a folder."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from kedro.pipeline import Pipeline, pipeline
from kedro.runner import ThreadRunner

from tests.pipelines.memory import run, sample
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.datasets import TrainingRunDataset
from transformer_foundry.pipelines import data_engineering, training, validation

PARAMETERS = {"max_steps": 3, "save_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1}
SHARED = ("model_export", "model_approval", "token_splits", "tokenizer")


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    prepared = validation.create_pipeline() + data_engineering.create_pipeline()
    catalog = run(prepared, {"model_export": sample(), "params:data": {"max_documents": 30}})
    return {name: catalog.load(name) for name in SHARED}


def entries(folder: Path, **changes: Any) -> dict[str, Any]:
    """The run and its parameters."""
    runs = {name: TrainingRunDataset(filepath=str(folder)) for name in ("training_run", "previous_run")}
    return runs | {"params:training": PARAMETERS | changes}


def test_a_second_run_trains_and_evaluates_nothing_again(
    inputs: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = run(training.create_pipeline(), inputs | entries(tmp_path / "run"))
    names = ("evaluation", "samples", "error_analysis")
    earlier = {name: first.load(name) for name in names}
    manifest = (tmp_path / "run" / "manifest.json").read_bytes()
    for path in (tmp_path / "run" / "checkpoints").glob("*/manifest.json"):
        os.utime(path, (time.time() - 150, time.time() - 150))
    again = run(training.create_pipeline(), inputs | entries(tmp_path / "run"), earlier)
    assert [name for name in names if again.load(name) is not first.load(name)] == []
    assert (tmp_path / "run" / "manifest.json").read_bytes() == manifest
    assert "training: up to date (run, step 3 of 3, made 2 min ago)." in caplog.messages


def test_more_steps_are_trained_and_evaluated(inputs: dict[str, Any], tmp_path: Path) -> None:
    first = run(training.create_pipeline(), inputs | entries(tmp_path / "run"))
    earlier = {name: first.load(name) for name in ("evaluation", "samples", "error_analysis")}
    longer = run(training.create_pipeline(), inputs | entries(tmp_path / "run", max_steps=5), earlier)
    assert longer.load("evaluation")["made_from"] != first.load("evaluation")["made_from"]


def test_a_model_without_a_verdict_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has not been checked"):
        run(training.create_pipeline(), inputs | entries(tmp_path / "run") | {"model_approval": None})


def test_two_trainings_share_their_inputs_in_one_pipeline(inputs: dict[str, Any], tmp_path: Path) -> None:
    sides = ("short", "long")
    both: Pipeline = sum(
        (pipeline(training.create_pipeline(), namespace=side, inputs=set(SHARED)) for side in sides), Pipeline([])
    )
    own = {
        (f"params:{side}.{name.removeprefix('params:')}" if name.startswith("params:") else f"{side}.{name}"): value
        for side, steps in zip(sides, (2, 3), strict=True)
        for name, value in entries(tmp_path / side, max_steps=steps).items()
    }
    catalog = run(both, inputs | own)
    assert [catalog.load(f"{side}.training_run").step for side in sides] == [2, 3]


def test_trainings_in_threads_do_not_share_the_random_generators(inputs: dict[str, Any], tmp_path: Path) -> None:
    trainer = training.create_pipeline().filter(node_names=["train_model"])
    both: Pipeline = sum((pipeline(trainer, namespace=side, inputs=set(SHARED)) for side in ("a", "b")), Pipeline([]))
    own = {
        (f"params:{side}.training" if name == "params:training" else f"{side}.{name}"): value
        for side in ("a", "b")
        for name, value in entries(tmp_path / side).items()
    }
    catalog = run(both, inputs | own, runner=ThreadRunner(max_workers=2))
    first, second = (catalog.load(f"{side}.training_run").latest().model for side in ("a", "b"))
    assert {name: tensor.tolist() for name, tensor in first.items()} == {
        name: tensor.tolist() for name, tensor in second.items()
    }
