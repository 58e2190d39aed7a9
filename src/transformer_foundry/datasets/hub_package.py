"""Kedro dataset of a package on the Hugging Face Hub."""

from __future__ import annotations

import os
from typing import Any

from kedro.io import AbstractDataset

from transformer_foundry.core.publishing import Package, fetch_package, publish

__all__ = ["HubPackageDataset"]


class HubPackageDataset(AbstractDataset[Package, Package]):
    """A package in a model repository of the Hub, with the token of HF_TOKEN or of ``hf auth login``.

    Args:
        repo_id: ``USER/NAME``.
        revision: Tag (``v2``), branch or commit that is loaded.
        private: Whether the repository is private when saving makes it.
        metadata: Ignored; for users and plugins.
    """

    def __init__(
        self, *, repo_id: str, revision: str = "main", private: bool = True, metadata: dict[str, Any] | None = None
    ) -> None:
        self._repo_id, self._revision, self._private = repo_id, revision, private
        self.metadata = metadata

    def load(self) -> Package:
        """Download the package to the cache of the Hub's client and verify it.

        Raises:
            DeploymentError: If it cannot be reached, is no package, or a file differs from its sha256.
        """
        return fetch_package(self._repo_id, self._revision, token=os.environ.get("HF_TOKEN"))

    def save(self, data: Package) -> None:
        """Publish a package.

        Raises:
            DeploymentError: As ``core.publishing.publish`` does.
        """
        publish(data.folder, self._repo_id, token=os.environ.get("HF_TOKEN"), private=self._private)

    def _describe(self) -> dict[str, Any]:
        return {"repo_id": self._repo_id, "revision": self._revision}
