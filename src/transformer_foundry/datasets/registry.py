"""Kedro dataset of the model registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from transformer_foundry.core.publishing import Registration, Registry

__all__ = ["RegistryDataset"]


class RegistryDataset(AbstractDataset[Registration, Registry]):
    """The registry in a folder; saving adds a package, or where it was published.

    Args:
        filepath: The folder.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Registry:
        """Return the registry; one that does not exist yet is empty."""
        return Registry(self._folder)

    def save(self, data: Registration) -> None:
        """Register a package, unless the registry has it.

        Raises:
            DeploymentError: If the package is damaged or there is no space.
        """
        data.enter(Registry(self._folder))

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
