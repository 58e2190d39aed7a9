"""Commands that run without a catalog look where the catalog puts things."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from kedro.io.catalog_config_resolver import CatalogConfigResolver

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.core.files.run_paths import RunPaths, registry_folder

ROOT = Path(__file__).parents[3]
PATHS = RunPaths.under("data", "gpt-best", "gpt")


@pytest.fixture(scope="module")
def filepaths() -> dict[str, Path]:
    """The path of each catalog entry of a run that shares the preparation of another."""
    run = {"name": "gpt-best", "preparation": "gpt"}
    loader = FoundryConfigLoader(
        str(ROOT / "conf"), runtime_params={"run": run}, base_env="base", default_run_env="local"
    )
    resolver = CatalogConfigResolver(loader["catalog"], default_runtime_patterns={})
    names = {name for name in loader["catalog"] if "{" not in name} | {"loss_figure", "search_history_figure"}
    entries = {name: resolver.resolve_pattern(name) for name in names}
    return {name: Path(entry["filepath"]) for name, entry in entries.items() if "filepath" in entry}


def test_folders_are_those_of_the_catalog(filepaths: dict[str, Path]) -> None:
    assert filepaths["training_run"] == PATHS.run
    assert filepaths["model_package"] == PATHS.package
    assert filepaths["token_splits"].parent == PATHS.model_input
    assert filepaths["study"].parent == PATHS.tuning
    assert filepaths["model_registry"] == registry_folder("data")


@pytest.mark.parametrize(
    ("folder", "entries"),
    [
        (PATHS.reports, ["evaluation", "samples", "loss_figure", "hub_publication"]),
        (PATHS.shared_reports, ["validation_report", "data_profile", "trials", "search_*"]),
    ],
    ids=["reports", "shared reports"],
)
def test_reports_are_in_the_folder_of_the_catalog(filepaths: dict[str, Path], folder: Path, entries: list[str]) -> None:
    for entry in entries:
        assert {filepaths[name].parent for name in fnmatch.filter(filepaths, entry)} == {folder}
