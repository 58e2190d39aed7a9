"""The registry of models as a catalog entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from transformer_foundry.core.publishing import Registration, Registry

__all__ = ["RegistryDataset"]


class RegistryDataset(AbstractDataset[Registration, Registry]):
    """The registry in a folder; saving adds a package, or where it was published, to it.

    Args:
        filepath: The folder.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> Registry:
        """Return the registry; one that does not exist yet is empty."""
        return Registry(self._filepath)

    def save(self, data: Registration) -> None:
        """Register a package; the same package is kept once.

        Raises:
            DeploymentError: If the package is damaged or there is no space.
        """
        data.enter(Registry(self._filepath))

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
