"""Kedro dataset of prepared data: memory-mapped tokens with an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kedro_datasets._typing import TablePreview  # kedro-viz chooses the drawing by this annotation

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.system.process import remove_build_folder
from transformer_foundry.datasets.storage.folder import FolderDataset

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["TokenSplitsDataset"]


class TokenSplitsDataset(FolderDataset["TokenSplits"]):
    """A folder of tokens, which exists if its index, written last, does and its files have their sizes.

    The arguments are those of ``FolderDataset``.

    Raises:
        ParameterError: For ``versioned: true``.
    """

    MAIN_FILE: ClassVar[str] = "index.json"

    WITHOUT_VERSIONS = (
        "Tokens ({filepath}) are large, and their fingerprint tells what they were made from.",
        "Remove 'versioned'; for tokens of other data set run.preparation.",
    )

    def preview(self) -> TablePreview:
        """Return rows, targets and text of each split for kedro-viz."""
        splits = self.load() if self.exists() else None
        if splits is None:
            return None
        rows = list(splits.splits.values())
        return TablePreview(
            {
                "index": list(range(len(rows))),
                "columns": ["split", "documents", "rows", "targets", "text_bytes"],
                "data": [[row.name, row.documents, len(row), row.target_count, row.text_bytes] for row in rows],
            }
        )

    def _write(self, data: TokenSplits, folder: Path) -> None:
        """Copy the files unless they are in place, and remove the folder that they were built in."""
        from transformer_foundry.core.data.tokenized.dataset import copy_splits

        copy_splits(data, folder)
        self._drop(data)

    def _read(self, folder: Path) -> TokenSplits:
        from transformer_foundry.core.data.tokenized.dataset import load_splits

        return load_splits(folder)

    def _is_whole(self, folder: Path) -> bool:
        try:
            self._read(folder)
        except DataError:
            return False
        return True

    def _source(self, data: TokenSplits) -> Path | None:
        return data.folder

    def _drop(self, data: TokenSplits) -> None:
        if data.folder is not None:
            remove_build_folder(data.folder)
