"""Kedro dataset of a tokenizer folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformer_foundry.datasets.optional_folder import OptionalFolderDataset

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer

__all__ = ["TokenizerDataset"]


class TokenizerDataset(OptionalFolderDataset["Tokenizer"]):
    """A folder that transformers' AutoTokenizer also loads."""

    def save(self, data: Tokenizer) -> None:
        """Write the tokenizer, its main file last."""
        data.save(self._folder)

    def _read(self) -> Tokenizer:
        from transformer_foundry.core.data.tokenizer.tokenizer import load_tokenizer

        return load_tokenizer(self._folder)

    def _exists(self) -> bool:
        return (self._folder / "tokenizer.json").is_file()
