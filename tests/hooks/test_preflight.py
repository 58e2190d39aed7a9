"""A run that cannot succeed is refused before its first node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.io.core import Version
from kedro.pipeline import Pipeline, pipeline
from kedro.pipeline.node import Node
from kedro.runner import ParallelRunner, SequentialRunner
from kedro_datasets.json import JSONDataset

from tests.hooks.runs import make_checkpoint
from transformer_foundry.core.base.errors import CheckpointError, DataError, DeploymentError, ParameterError
from transformer_foundry.core.training.checkpointing.checkpoint import write_checkpoint
from transformer_foundry.core.training.checkpointing.run_files import write_run_record
from transformer_foundry.datasets import AtomicJSONDataset, OptionalJSONDataset, TrainingRunDataset
from transformer_foundry.hooks import PreflightCallback
from transformer_foundry.hooks.run_context import make_run_contexts
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    """The pipelines of the project, which Kedro has in every command."""
    pipelines.configure("transformer_foundry.pipeline_registry")
    yield
    pipelines.configure(None)


def check(
    folder: Path,
    pipeline: Pipeline,
    *,
    hub_repo: str | None = None,
    present: tuple[str, ...] = (),
    fork_from: str | None = None,
    **others: Any,
) -> None:
    files = folder.with_name("files")
    entries: dict[str, Any] = {
        name: JSONDataset(filepath=str(files / name)) for name in pipeline.inputs() if name in KEPT
    }
    for name in present:
        entries[name].save(name)
    entries["best_parameters"] = OptionalJSONDataset(filepath=str(files / "best_parameters"))
    entries |= others
    parameters = {
        "data_dir": str(folder),
        "run": {"name": "gpt", "fork_from": fork_from},
        "deployment": {"hub_repo": hub_repo},
    }
    config = {"parameters": parameters, "catalog": {}}
    (context,) = make_run_contexts(config, {}, pipeline, DataCatalog(entries))
    PreflightCallback().check_run(context)


TRAINING_INPUTS = ("model_approval", "token_splits", "tokenizer")
DEPLOYMENT_INPUTS = ("training_run", "evaluation", "data_profile", "tokenizer", "token_splits", "validation_report")
KEPT = {*TRAINING_INPUTS, *DEPLOYMENT_INPUTS}


def test_missing_inputs_are_named_with_the_pipelines_that_make_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kedro run --pipelines validation,data_engineering") as caught:
        check(tmp_path, training.create_pipeline())
    assert all(name in str(caught.value) for name in TRAINING_INPUTS)


def test_an_input_in_memory_is_refused_unless_it_has_a_value(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokenizer of this run has no value, and MemoryDataset keeps none"):
        check(tmp_path, training.create_pipeline(), present=TRAINING_INPUTS, tokenizer=MemoryDataset())
    check(tmp_path, training.create_pipeline(), present=TRAINING_INPUTS, tokenizer=MemoryDataset("of a notebook"))


def test_a_run_with_all_it_needs_goes_ahead(tmp_path: Path) -> None:
    check(tmp_path, training.create_pipeline(), present=TRAINING_INPUTS)
    check(tmp_path, data_engineering.create_pipeline())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [("deployment",), ("mine",), ("training", "deployment")])
def test_models_to_compare_are_not_ignored_where_one_is_trained(tmp_path: Path, names: tuple[str, ...]) -> None:
    chosen = training.create_pipeline() + (comparison.create_pipeline() if "training" in names else Pipeline([]))
    config = {"parameters": {"data_dir": str(tmp_path), "benchmark": {"models": ["gpt2", "llama"]}}, "catalog": {}}
    catalog = DataCatalog({"training_run": TrainingRunDataset(filepath=str(tmp_path / "gpt"))})
    (context,) = make_run_contexts(config, {"pipeline_names": names}, chosen, catalog)
    with pytest.raises(ParameterError, match=r"\[gpt2, llama\], but .* trains one model, gpt") as caught:
        PreflightCallback().check_run(context)
    assert len(str(caught.value).splitlines()) == 3


def test_a_fork_that_the_entry_of_the_run_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "base").mkdir(parents=True)
    (tmp_path / "runs" / "base" / "manifest.json").write_text("{}")

    def check_fork(**read: str) -> None:
        run = TrainingRunDataset(filepath=str(tmp_path / "runs" / "gpt"), **read)
        runs = {"training_run": run, "previous_run": run}
        check(tmp_path / "data", training.create_pipeline(), present=TRAINING_INPUTS, fork_from="base", **runs)

    check_fork(fork_from="base")
    with pytest.raises(CheckpointError, match="does not read it"):
        check_fork()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="data_dir"):
        check(tmp_path / "file" / "data", Pipeline([]))


def test_publishing_without_a_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    with pytest.raises(DeploymentError, match="HF_TOKEN"):
        check(tmp_path, deployment.create_pipeline(), hub_repo="alice/gpt", present=DEPLOYMENT_INPUTS)


def test_a_token_in_the_environment_is_enough_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    check(tmp_path, deployment.create_pipeline(), hub_repo="alice/gpt", present=DEPLOYMENT_INPUTS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("known", [(), ("2026-01-31T12.00.00.000Z", "2026-02-01T12.00.00.000Z")])
@pytest.mark.parametrize("is_made_here", [True, False])
def test_a_version_that_does_not_exist_is_refused_with_those_that_do(
    tmp_path: Path, known: tuple[str, ...], *, is_made_here: bool
) -> None:
    path = str(tmp_path / "evaluation.json")
    for version in known:
        AtomicJSONDataset(filepath=path, version=Version(None, version)).save({})
    pipeline = deployment.create_pipeline() + (training.create_pipeline() if is_made_here else Pipeline([]))
    asked = AtomicJSONDataset(filepath=path, version=Version("2020-01-01T00.00.00.000Z", None))
    with pytest.raises(DataError, match=r"evaluation has no version 2020-01-01T00.00.00.000Z\.") as caught:
        check(tmp_path / "data", pipeline, evaluation=asked)
    assert all(version in str(caught.value) for version in known)
    assert bool(known) == (f"--load-versions evaluation:{max(known, default='')}, or" in str(caught.value))


def test_processes_are_judged_by_the_runner_and_not_by_the_class_of_the_catalog(tmp_path: Path) -> None:
    catalog = SharedMemoryDataCatalog({"training_run": TrainingRunDataset(filepath=str(tmp_path / "run"))})
    config = {"parameters": {"data_dir": str(tmp_path), "run": {"name": "gpt"}}, "catalog": {}}
    for runner in (None, SequentialRunner()):
        (context,) = make_run_contexts(config, {"runner": str(runner)}, Pipeline([]), catalog)
        PreflightCallback().check_run(context)

    trains = Pipeline([Node(lambda: "", None, "training_run", name="train")])
    (context,) = make_run_contexts(config, {"runner": str(ParallelRunner())}, trains, catalog)
    with pytest.raises(ParameterError, match="several processes, but 1 entry belongs to one: training_run"):
        PreflightCallback().check_run(context)


def test_processes_may_run_nodes_that_use_no_entry_of_one_process(tmp_path: Path) -> None:
    entry = {"type": "transformer_foundry.datasets.TrainingRunDataset", "filepath": str(tmp_path / "runs" / "gpt")}
    catalog = SharedMemoryDataCatalog.from_config({"training_run": entry})
    config = {"parameters": {"data_dir": str(tmp_path), "run": {"name": "gpt"}}, "catalog": {"training_run": entry}}
    own = Pipeline([Node(str.upper, "text", "answer", name="own")])
    (context,) = make_run_contexts(config, {"runner": str(ParallelRunner())}, own, catalog)
    PreflightCallback().check_run(context)
    catalog.validate_catalog()  # ParallelRunner calls this after the hooks
    assert own.datasets() == {"text", "answer"}
    catalog.get("training_run")
    with pytest.raises(AttributeError, match="training_run"):
        catalog.validate_catalog()


def test_a_catalog_for_processes_is_refused_with_a_runner_that_cannot_use_it(tmp_path: Path) -> None:
    config = {"parameters": {"data_dir": str(tmp_path), "run": {"name": "gpt"}}, "catalog": {}}
    pipeline = Pipeline([Node(lambda: "", None, "text", name="write")])
    (context,) = make_run_contexts(config, {"runner": "None"}, pipeline, SharedMemoryDataCatalog())
    with pytest.raises(ParameterError, match="Remove DATA_CATALOG_CLASS"):
        PreflightCallback().check_run(context)


def test_a_type_that_cannot_be_missing_is_refused_for_what_may_be(tmp_path: Path) -> None:
    swapped = {"best_parameters": JSONDataset(filepath=str(tmp_path / "swapped.json"))}
    with pytest.raises(DataError, match=r"Give best_parameters the type transformer_foundry\.datasets\.OptionalJSON"):
        check(tmp_path / "data", training.create_pipeline(), present=TRAINING_INPUTS, **swapped)


def test_options_with_which_a_run_cannot_be_continued_are_refused_under_their_key(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "second"
    write_checkpoint(folder, make_checkpoint(4))
    write_run_record(folder, {"parameters": {"training": {"learning_rate": 1e-4, "max_steps": 4}}})
    run = TrainingRunDataset(filepath=str(folder))
    second = pipeline(training.create_pipeline(), namespace="second")
    entries = {name: MemoryDataset(1) for name in second.inputs() if not name.startswith("params:")}
    catalog = DataCatalog(entries | {"second.training_run": run, "second.previous_run": run})

    def check_options(**options: Any) -> None:
        sections = {"data_dir": str(tmp_path / "data"), "second": {"training": options}}
        (context,) = make_run_contexts({"parameters": sections}, {}, second, catalog)
        PreflightCallback().check_run(context)

    check_options(learning_rate=1e-4, max_steps=8)
    with pytest.raises(CheckpointError, match=r"^second.training.learning_rate is 0.002.* 0.0001 up to step 4"):
        check_options(learning_rate=2e-3)
