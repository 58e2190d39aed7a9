"""A run that cannot succeed is refused before its first node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro_datasets.json import JSONDataset

from transformer_foundry.core.base.errors import DataError, DeploymentError, ParameterError
from transformer_foundry.datasets import OptionalJSONDataset
from transformer_foundry.hooks import PreflightCallback
from transformer_foundry.hooks.run_context import make_run_context
from transformer_foundry.pipelines import data_engineering, deployment, training


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    """The pipelines of the project, which Kedro has in every command."""
    pipelines.configure("transformer_foundry.pipeline_registry")
    yield
    pipelines.configure(None)


def check(folder: Path, pipeline: Pipeline, *, hub_repo: str | None = None, present: tuple[str, ...] = ()) -> None:
    files = folder.with_name("files")
    entries: dict[str, Any] = {
        name: JSONDataset(filepath=str(files / name)) for name in pipeline.inputs() if name in KEPT
    }
    for name in present:
        entries[name].save(name)
    entries["best_parameters"] = OptionalJSONDataset(filepath=str(files / "best_parameters"))
    parameters = {"data_dir": str(folder), "run": {"name": "gpt"}, "deployment": {"hub_repo": hub_repo}}
    config = {"parameters": parameters, "catalog": {}}
    PreflightCallback().on_run_start(make_run_context(config, {}, pipeline, DataCatalog(entries)))


TRAINING_INPUTS = ("validation_report", "token_splits", "tokenizer")
DEPLOYMENT_INPUTS = ("training_run", "evaluation", "data_profile", "tokenizer", "token_splits", "validation_report")
KEPT = {*TRAINING_INPUTS, *DEPLOYMENT_INPUTS}


def test_missing_inputs_are_named_with_the_pipelines_that_make_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kedro run --pipelines validation,data_engineering") as caught:
        check(tmp_path, training.create_pipeline())
    assert all(name in str(caught.value) for name in TRAINING_INPUTS)


def test_a_run_with_all_it_needs_goes_ahead(tmp_path: Path) -> None:
    check(tmp_path, training.create_pipeline(), present=TRAINING_INPUTS)
    check(tmp_path, data_engineering.create_pipeline())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="data_dir"):
        check(tmp_path / "file" / "data", data_engineering.create_pipeline())


def test_publishing_without_a_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    with pytest.raises(DeploymentError, match="HF_TOKEN"):
        check(tmp_path, deployment.create_pipeline(), hub_repo="alice/gpt", present=DEPLOYMENT_INPUTS)


def test_a_token_in_the_environment_is_enough_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    check(tmp_path, deployment.create_pipeline(), hub_repo="alice/gpt", present=DEPLOYMENT_INPUTS)
    assert list(tmp_path.iterdir()) == []
