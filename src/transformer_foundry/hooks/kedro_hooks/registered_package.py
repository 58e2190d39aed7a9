"""Tell a registry which package the run makes: for ``--only-missing-outputs`` it exists if that one is registered."""

from __future__ import annotations

from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from transformer_foundry.hooks.run_context import entry_of

__all__ = ["follow_packages"]


def follow_packages(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
    """Give each registry that a pipeline writes the dataset of the package that is entered, wherever that is kept."""
    from transformer_foundry.datasets import RegistryDataset

    for node in pipeline.nodes:
        package = entry_of(node, "model_package")
        for name in node.outputs if package is not None else ():
            registry = catalog.get(name)
            if package is not None and isinstance(registry, RegistryDataset):
                registry.package = catalog.get(package)
