"""The context of a command has the options and folders of the configuration, and the datasets by their types."""

from __future__ import annotations

from pathlib import Path

from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline

from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.datasets import StudyDataset, TrainingRunDataset
from transformer_foundry.hooks.run_context import RunContext, make_run_context


def context_of(entries: dict[str, object], catalog: DataCatalog, output: str = "result") -> RunContext:
    parameters = {"data_dir": "data", "run": {"name": "gpt", "preparation": "base"}, "drive": {"folder": "copy"}}
    config = {"parameters": parameters, "catalog": entries}
    return make_run_context(config, {"env": "standard"}, pipeline([node(lambda: 1, None, output)]), catalog)


def test_the_run_is_found_by_its_type() -> None:
    dataset = TrainingRunDataset(filepath="elsewhere/run")
    context = context_of({}, DataCatalog({"my_training": dataset}), "my_training")
    assert context.run is dataset
    assert context.trains
    assert context.paths.run == Path("elsewhere/run")


def test_a_search_is_found_by_its_type() -> None:
    dataset = StudyDataset(filepath="data/study.db")
    assert context_of({}, DataCatalog({"my_search": dataset}), "my_search").study is dataset
    assert context_of({}, DataCatalog({"my_search": dataset})).study is None


def test_folders_are_those_of_the_catalog() -> None:
    entries: dict[str, object] = {
        "package": {"type": "transformer_foundry.datasets.PackageDataset", "filepath": "disk/package"},
        "study": {"type": "transformer_foundry.datasets.StudyDataset", "filepath": "disk/search/study.db"},
        "tokens": {"type": "transformer_foundry.datasets.TokenSplitsDataset", "filepath": "disk/gpt/tokens"},
    }
    paths = context_of(entries, DataCatalog()).paths
    assert (paths.package, paths.tuning, paths.model_input) == (
        Path("disk/package"),
        Path("disk/search"),
        Path("disk/gpt"),
    )


def test_files_are_those_under_the_data_folder_but_for_runs() -> None:
    entries: dict[str, object] = {
        "tokenizer": {"type": "x.TokenizerDataset", "filepath": "data/tokenizer"},
        "training_run": {"type": "x.TrainingRunDataset", "filepath": "data/run"},
        "elsewhere": {"type": "json.JSONDataset", "filepath": "other/x.json"},
        "contract": {"type": "MemoryDataset"},
        "_template": {"filepath": "other/template.json"},
    }
    assert context_of(entries, DataCatalog()).files == {"tokenizer": Path("data/tokenizer")}


def test_options_are_those_of_their_section() -> None:
    assert context_of({}, DataCatalog()).options(DriveOptions).folder == "copy"
