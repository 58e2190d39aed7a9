"""Kedro dataset of a tokenizer folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from transformer_foundry.core.errors import DataError

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizers import Tokenizer

__all__ = ["TokenizerDataset"]


class TokenizerDataset(AbstractDataset["Tokenizer", "Tokenizer | None"]):
    """A folder that transformers' AutoTokenizer loads, too.

    Args:
        filepath: The folder.
        is_optional: Whether ``load`` returns None where there is nothing, instead of raising.
        metadata: For plugins of Kedro; not used here.
    """

    def __init__(self, *, filepath: str, is_optional: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self._is_optional = is_optional
        self.metadata = metadata

    def load(self) -> Tokenizer | None:
        """Read the tokenizer."""
        from transformer_foundry.core.data.tokenizers import load_tokenizer

        if self._is_optional and not self._exists():
            return None
        try:
            return load_tokenizer(self._folder)
        except DataError:
            if self._is_optional:
                return None
            raise

    def save(self, data: Tokenizer) -> None:
        """Write the tokenizer; its main file comes last."""
        data.save(self._folder)

    def _exists(self) -> bool:
        return (self._folder / "tokenizer.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
