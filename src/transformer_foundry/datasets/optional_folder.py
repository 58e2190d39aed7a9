"""Base of Kedro datasets of a folder that may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

from kedro.io import AbstractDataset

from transformer_foundry.core.base.errors import DataError

__all__ = ["OptionalFolderDataset"]

ContentT = TypeVar("ContentT")


class OptionalFolderDataset(AbstractDataset[ContentT, "ContentT | None"], Generic[ContentT]):
    """A folder that is complete or does not exist; where it may be missing, loading returns None.

    Args:
        filepath: The folder.
        is_optional: Whether ``load`` returns None instead of raising if the folder is missing or incomplete.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, is_optional: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._is_optional = is_optional
        self.metadata = metadata

    def load(self) -> ContentT | None:
        """Read the folder."""
        if self._is_optional and not self._exists():
            return None
        try:
            return self._read()
        except DataError:
            if self._is_optional:
                return None
            raise

    def _read(self) -> ContentT:
        raise NotImplementedError

    def _exists(self) -> bool:
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
