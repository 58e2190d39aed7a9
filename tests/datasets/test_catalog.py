"""Every entry of the real catalog, as a table: round trip, description, pickling; nothing is read or written."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.framework.project import configure_project
from kedro.io import AbstractDataset, DataCatalog

from tests.integration.foundry import PROJECT
from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.datasets import AtomicJSONDataset
from transformer_foundry.pipeline_registry import register_pipelines

LONGEST_DESCRIPTION = 300
LAYERS = {"raw", "validation", "intermediate", "primary", "model_input", "models", "model_output", "reporting"}
SINGLE_PROCESS = {
    "corpus", "previous_run", "training_run", "previous_study", "study", "previous_comparison_results",
    "comparison_results",
}  # fmt: skip


IN_MEMORY = ("earlier_results", "previous_splits")


def configured() -> dict[str, Any]:
    files = sorted((PROJECT / "conf" / "base").glob("catalog*.yml"))
    return {name: entry for file in files for name, entry in yaml.safe_load(file.read_text()).items()}


def entries() -> list[str]:
    configure_project("transformer_foundry")
    used = {name for pipeline in register_pipelines().values() for name in pipeline.datasets()}
    named = {name for name in configured() if "{" not in name}
    # Kedro keeps what is in memory out of a configuration.
    return sorted(name for name in used | named if not name.startswith("param") and name not in IN_MEMORY)


ENTRIES = entries()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def catalog(root: Path) -> DataCatalog:
    parameters = {"data_dir": str(root / "data with ünïcode")}
    loader = FoundryConfigLoader(
        str(PROJECT / "conf"), runtime_params=parameters, base_env="base", default_run_env="local"
    )
    return DataCatalog.from_config(loader["catalog"])


def dataset(catalog: DataCatalog, name: str) -> AbstractDataset[Any, Any]:
    found = catalog.get(name)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def again(catalog: DataCatalog) -> DataCatalog:
    for name in ENTRIES:
        dataset(catalog, name)
    return DataCatalog.from_config(*catalog.to_config())


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_can_be_made_again_from_its_configuration(catalog: DataCatalog, again: DataCatalog, name: str) -> None:
    assert repr(again.get(name)) == repr(catalog.get(name))


@pytest.mark.parametrize("name", ENTRIES)
def test_describing_an_entry_is_short_and_touches_nothing(catalog: DataCatalog, name: str, root: Path) -> None:
    described = repr(dataset(catalog, name))
    assert len(described.replace(str(root), "")) < LONGEST_DESCRIPTION
    assert not list(root.iterdir())


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_pickled_or_says_that_it_is_of_one_process(catalog: DataCatalog, name: str) -> None:
    made = dataset(catalog, name)
    assert getattr(made, "_SINGLE_PROCESS", False) == (name in SINGLE_PROCESS)
    if name not in SINGLE_PROCESS:
        assert repr(pickle.loads(pickle.dumps(made))) == repr(made)


@pytest.mark.parametrize("name", ENTRIES)
def test_nothing_exists_in_an_empty_folder(catalog: DataCatalog, name: str) -> None:
    assert catalog.exists(name) == (name == "model_export")


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_a_layer_of_kedro_viz(catalog: DataCatalog, name: str) -> None:
    metadata = getattr(dataset(catalog, name), "metadata", None) or {}
    layer = metadata.get("kedro-viz", {}).get("layer")
    assert layer in LAYERS


@pytest.mark.parametrize("name", ENTRIES)
def test_a_preview_of_nothing_is_nothing(catalog: DataCatalog, name: str) -> None:
    made = dataset(catalog, name)
    if "transformer_foundry" not in type(made).__module__ or not hasattr(made, "preview"):
        return
    kind = inspect.signature(made.preview).return_annotation
    assert kind in {"ImagePreview", "JSONPreview", "PlotlyPreview", "TablePreview"}  # all that kedro-viz draws
    made.preview()


def test_credentials_come_back_from_the_configuration() -> None:
    kinds = ["TokenizerDataset", "TokenSplitsDataset", "PackageDataset", "AtomicJSONDataset", "ComparisonDataset"]
    config = {
        kind: {"type": f"transformer_foundry.datasets.{kind}", "filepath": f"memory://{kind}", "credentials": "mine"}
        for kind in kinds
    }
    catalog = DataCatalog.from_config(config, {"mine": {"secret": "s3cr3t"}})
    assert "s3cr3t" not in repr([catalog.get(kind) for kind in kinds])
    entries, credentials, *_ = catalog.to_config()
    assert all("s3cr3t" not in str(entry) for entry in entries.values())
    made_again = DataCatalog.from_config(entries, credentials)
    assert [repr(made_again.get(kind)) for kind in kinds] == [repr(catalog.get(kind)) for kind in kinds]


@pytest.mark.parametrize("name", ["earlier_results", "previous_splits"])
def test_what_hooks_supply_to_a_namespace_is_no_file_of_a_pattern_for_results(name: str) -> None:
    loader = FoundryConfigLoader(str(PROJECT / "conf"), base_env="base", default_run_env="base")
    pattern = {"type": "transformer_foundry.datasets.AtomicJSONDataset", "filepath": "second/{result}.json"}
    catalog = DataCatalog.from_config({**loader["catalog"], "second.{result}": pattern})
    assert isinstance(catalog["second.evaluation"], AtomicJSONDataset)
    assert catalog.load(f"second.{name}") is None
