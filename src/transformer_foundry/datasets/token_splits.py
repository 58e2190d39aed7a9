"""Kedro dataset of prepared data: memory-mapped tokens and an index."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from transformer_foundry.core.errors import DataError

if TYPE_CHECKING:
    from transformer_foundry.core.data.splits import TokenSplits

__all__ = ["TokenSplitsDataset"]


class TokenSplitsDataset(AbstractDataset["TokenSplits", "TokenSplits | None"]):
    """A folder of tokens that counts as existing only when its index, written last, does.

    Args:
        filepath: The folder.
        is_optional: Whether ``load`` returns None where there is nothing, instead of raising.
        metadata: For plugins of Kedro; not used here.
    """

    def __init__(self, *, filepath: str, is_optional: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._is_optional = is_optional
        self.metadata = metadata

    def load(self) -> TokenSplits | None:
        """Memory-map the tokens."""
        from transformer_foundry.core.data.splits import load_splits

        if self._is_optional and not self._exists():
            return None
        try:
            return load_splits(self._folder)
        except DataError:
            if self._is_optional:
                return None
            raise

    def save(self, data: TokenSplits) -> None:
        """Copy the files here unless they are here already; a temporary original is removed."""
        from transformer_foundry.core.data.splits import copy_splits

        copy_splits(data, self._folder)
        temporary = Path(tempfile.gettempdir()).resolve()
        if data.folder is not None and data.folder.resolve().parent == temporary:
            shutil.rmtree(data.folder, ignore_errors=True)

    def _exists(self) -> bool:
        from transformer_foundry.core.data.splits import find_fingerprint

        return find_fingerprint(self._folder) is not None

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
