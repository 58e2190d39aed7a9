"""The registry as a catalog entry, filled by the deployment pipeline."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from tests.core.publishing.registry.test_registry import package
from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.datasets import PackageDataset, RegistryDataset
from transformer_foundry.hooks.kedro_hooks.registered_package import follow_packages
from transformer_foundry.pipelines.deployment import create_pipeline


def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Any = None, **options: Any) -> RegistryDataset:
    """Run what comes after packaging; ``published`` stands for what the Hub answers."""
    registry = RegistryDataset(filepath=str(tmp_path / "registry"))
    answer = published if callable(published) else lambda *_, **__: published
    monkeypatch.setattr("transformer_foundry.core.publishing.hub.publish.publish", answer)
    folder = tmp_path / "package"
    entries = {
        "model_package": package(folder, 2.0),
        "training_run": SimpleNamespace(manifest={"environment": {"git_revision": "abc"}}),
        "params:run": RunOptions(name="tiny"),
        "params:deployment": DeploymentOptions(**options),
    }
    kept: dict[str, Any] = {name: MemoryDataset(value, copy_mode="assign") for name, value in entries.items()}
    catalog = DataCatalog(kept | {"model_registry": registry, "published_registry": registry})
    SequentialRunner().run(create_pipeline().from_nodes("register_package"), catalog)
    return registry


def test_a_package_is_registered_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = deploy(tmp_path, monkeypatch, model_name="my-gpt").load().find("my-gpt@candidate")
    assert (found.version, found.lineage["run"], found.lineage["git_revision"]) == (1, "tiny", "abc")
    assert found.publications == ()


def test_the_release_on_the_hub_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = {"repo_id": "alice/gpt", "tag": "v1", "revision": "r", "url": "u", "difference": 0.0}
    found = deploy(tmp_path, monkeypatch, release, hub_repo="alice/gpt").load().find("gpt")
    assert found.publications == (release,)


def test_a_package_is_registered_even_if_publishing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise DeploymentError("no network")

    with pytest.raises(DeploymentError, match="no network"):
        deploy(tmp_path, monkeypatch, refuse, hub_repo="alice/gpt")
    assert RegistryDataset(filepath=str(tmp_path / "registry")).load().find("gpt").version == 1


def test_a_registry_exists_if_it_has_the_package_of_the_run_wherever_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = deploy(tmp_path, monkeypatch)
    for name, is_registered in (("package", True), ("moved", False)):
        if not is_registered:
            package(tmp_path / name, 3.0)
        moved = PackageDataset(filepath=str(tmp_path / name))
        catalog = DataCatalog({"model_package": moved, "model_registry": registry})
        follow_packages(create_pipeline(), catalog)
        assert registry.exists() == is_registered
