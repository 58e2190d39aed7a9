"""Kedro dataset of prepared data: memory-mapped tokens with an index."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.datasets.optional_folder import OptionalFolderDataset

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["TokenSplitsDataset"]


class TokenSplitsDataset(OptionalFolderDataset["TokenSplits"]):
    """A folder of tokens, which exists if its index, written last, does."""

    def save(self, data: TokenSplits) -> None:
        """Copy the files unless they are in place, and remove a temporary original."""
        from transformer_foundry.core.data.tokenized.dataset import copy_splits

        copy_splits(data, self._folder)
        temporary = Path(tempfile.gettempdir()).resolve()
        if data.folder is not None and data.folder.resolve().parent == temporary:
            shutil.rmtree(data.folder, ignore_errors=True)

    def _read(self) -> TokenSplits:
        from transformer_foundry.core.data.tokenized.dataset import load_splits

        return load_splits(self._folder)

    def _exists(self) -> bool:
        from transformer_foundry.core.data.tokenized.dataset import read_fingerprint

        return read_fingerprint(self._folder) is not None
