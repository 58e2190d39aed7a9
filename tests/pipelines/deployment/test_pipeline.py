"""The deployment pipeline on a catalog in memory, but for run, package and registry, which are folders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog

from tests.pipelines.memory import run, sample
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.datasets import PackageDataset, RegistryDataset, TrainingRunDataset
from transformer_foundry.pipelines import data_engineering, deployment, training, validation

PARTS = ("model_export", "validation_report", "token_splits", "tokenizer", "data_profile", "evaluation", "training_run")
TRAINING = {"max_steps": 1, "per_device_train_batch_size": 2, "num_samples": 0}
DEPLOYMENT = {"formats": [], "page": False}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("training") / "run"
    runs = {name: TrainingRunDataset(filepath=str(folder)) for name in ("training_run", "previous_run")}
    everything = validation.create_pipeline() + data_engineering.create_pipeline() + training.create_pipeline()
    parameters = {"params:data": {"max_documents": 30}, "params:training": TRAINING}
    catalog = run(everything, {"model_export": sample()} | runs | parameters)
    return {name: catalog.load(name) for name in PARTS}


def deploy(inputs: dict[str, Any], folder: Path, **changes: Any) -> DataCatalog:
    package = PackageDataset(filepath=str(folder / "package"))
    registries = {name: RegistryDataset(filepath=str(folder / "registry")) for name in REGISTRIES}
    parameters = {"params:deployment": DEPLOYMENT | changes, "params:run": {"name": "gpt"}}
    entries = {"model_package": package, **registries, **parameters}
    return run(deployment.create_pipeline(), inputs | entries, {"model_package": package.load_if_whole()})


REGISTRIES = ("model_registry", "published_registry")


def test_a_package_is_registered_and_published_nowhere(inputs: dict[str, Any], tmp_path: Path) -> None:
    catalog = deploy(inputs, tmp_path)
    assert [item["status"] for item in catalog.load("model_package").manifest["formats"]] == ["verified"]
    assert catalog.load("hub_publication")["published"] is False
    assert [len(found) for found in catalog.load("model_registry").versions().values()] == [1]


def test_a_package_of_the_same_parts_is_kept(
    inputs: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deploy(inputs, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "package").iterdir()}
    caplog.set_level(logging.INFO)
    catalog = deploy(inputs, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "package").iterdir()} == files
    assert [len(found) for found in catalog.load("model_registry").versions().values()] == [1]
    assert any(message.startswith("deployment: up to date (1 format of step 1, made ") for message in caplog.messages)


def test_other_settings_make_the_package_again(inputs: dict[str, Any], tmp_path: Path) -> None:
    first = deploy(inputs, tmp_path).load("model_package").digest
    assert deploy(inputs, tmp_path, license="mit").load("model_package").digest != first


def test_an_evaluation_of_another_checkpoint_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    other = inputs["evaluation"] | {"made_from": inputs["evaluation"]["made_from"] | {"step": 7}}
    with pytest.raises(FoundryError, match="not of this checkpoint"):
        deploy(inputs | {"evaluation": other}, tmp_path)
    assert not (tmp_path / "package").exists()
