"""Kedro dataset of the model registry."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import Version

from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.publishing import Registration, Registry
from transformer_foundry.datasets.publishing.package import PackageDataset
from transformer_foundry.datasets.storage.location import local_path, refuse_version

__all__ = ["RegistryDataset"]


class RegistryDataset(AbstractDataset[Registration, Registry]):
    """The registry in a folder of this machine; saving adds a package, or where it was published.

    Args:
        filepath: The folder.
        version: Refused: the registry numbers its packages itself.
        metadata: Ignored; for users and plugins.

    Attributes:
        package: Dataset of the package that the run makes: the entry exists if that one is registered. The hooks set it
            for ``--only-missing-outputs``; without it the entry exists if anything is registered.

    Raises:
        ParameterError: If ``filepath`` is not on this machine, or for ``versioned: true``.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = local_path(
            filepath,
            "The model registry needs a folder of this machine: several commands write to it under one lock.",
            "Use a local path; publish packages elsewhere with deployment.hub_repo, or give model_package that path.",
        )
        refuse_version(version, "The registry keeps all versions of a model itself.", "Remove 'versioned'.")
        self.package: AbstractDataset[Any, Any] | None = None
        self.metadata = metadata

    @property
    def place(self) -> str:
        """Where the registry is, for messages and comparison."""
        return str(self._folder)

    def load(self) -> Registry:
        """Return the registry; one that does not exist yet is empty."""
        return Registry(self._folder)

    def save(self, data: Registration) -> None:
        """Register a package, unless the registry has it.

        Raises:
            DeploymentError: If the package is damaged or there is no space.
        """
        data.enter(Registry(self._folder))

    def is_readable(self) -> bool:
        """Return whether there is a registry; a damaged one is an error in ``load``."""
        return self._folder.is_dir()

    def _exists(self) -> bool:
        if not self.is_readable():
            return False
        versions = [version for versions in Registry(self._folder).versions().values() for version in versions]
        if not isinstance(self.package, PackageDataset):
            return bool(versions)
        if not self.package.exists():
            return False
        manifest = self.package.folder / MANIFEST_FILE
        return manifest.is_file() and sha256_of(manifest) in {version.package_sha256 for version in versions}

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
