"""Kedro dataset of a package on the Hugging Face Hub."""

from __future__ import annotations

import os
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import Version

from transformer_foundry.core.publishing import Package, fetch_package, is_published, publish
from transformer_foundry.datasets.storage.location import refuse_version

__all__ = ["HubPackageDataset"]


class HubPackageDataset(AbstractDataset[Package, Package]):
    """A package in a model repository of the Hub.

    Args:
        repo_id: ``USER/NAME``.
        revision: Tag (``v2``), branch or commit that is loaded.
        private: Whether the repository is private when saving makes it.
        version: Refused: the Hub keeps all versions.
        credentials: ``token`` of the Hub; without it that of ``HF_TOKEN`` or of ``hf auth login`` is used.
        metadata: Ignored; for users and plugins.

    Raises:
        ParameterError: For ``versioned: true``.
    """

    def __init__(
        self,
        *,
        repo_id: str,
        revision: str = "main",
        private: bool = True,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        refuse_version(
            version,
            f"The repository {repo_id} keeps all versions itself.",
            "Remove 'versioned'; choose with 'revision'.",
        )
        self._repo_id, self._revision, self._private = repo_id, revision, private
        self._given_token: str | None = (credentials or {}).get("token")
        self.metadata = metadata

    def load(self) -> Package:
        """Download the package to the cache of the Hub's client and verify it.

        Raises:
            DeploymentError: If it cannot be reached, is no package, or a file differs from its sha256.
        """
        return fetch_package(self._repo_id, self._revision, token=self._token)

    def save(self, data: Package) -> None:
        """Publish a package.

        Raises:
            DeploymentError: As ``core.publishing.publish`` does.
        """
        publish(data.folder, self._repo_id, token=self._token, private=self._private)

    @property
    def _token(self) -> str | None:
        return self._given_token or os.environ.get("HF_TOKEN")

    def _exists(self) -> bool:
        return is_published(self._repo_id, self._revision, token=self._token)

    def _describe(self) -> dict[str, Any]:
        return {"repo_id": self._repo_id, "revision": self._revision}
