"""Kedro dataset of a tokenizer folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kedro_datasets._typing import JSONPreview  # kedro-viz chooses the drawing by this annotation

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.files.seal import broken_file, remove_seal, write_seal
from transformer_foundry.datasets.storage.folder import FolderDataset

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer

__all__ = ["TokenizerDataset"]

_PREVIEWED = 20
"""Tokens that a preview shows, from the end: the longest ones."""


class TokenizerDataset(FolderDataset["Tokenizer"]):
    """A folder that transformers' AutoTokenizer also loads; the arguments are those of ``FolderDataset``."""

    MAIN_FILE: ClassVar[str] = "tokenizer.json"

    def preview(self) -> JSONPreview:
        """Return the size of the vocabulary, the special tokens and the tokens learned last for kedro-viz."""
        tokenizer = self.load() if self.exists() else None
        if tokenizer is None:
            return None
        last = range(max(0, tokenizer.vocab_size - _PREVIEWED), tokenizer.vocab_size)
        shown = {
            "vocab_size": tokenizer.vocab_size,
            "algorithm": tokenizer.algorithm,
            "special": {number: tokenizer.token(number) for number in tokenizer.special.ids()[:_PREVIEWED]},
            "last_tokens": [tokenizer.token(number) for number in last],
        }
        return JSONPreview(json.dumps(shown, ensure_ascii=False))

    def _write(self, data: Tokenizer, folder: Path) -> None:
        remove_seal(folder)
        data.save(folder)
        write_seal(folder, [path.name for path in folder.glob("*.json")])

    def _read(self, folder: Path) -> Tokenizer:
        from transformer_foundry.core.data.tokenizer.tokenizer import load_tokenizer

        if (broken := broken_file(folder)) is not None:
            raise DataError(
                f"{broken} is damaged: it differs from what was written.",
                "Expected the bytes whose sha256 was noted when the tokenizer was made.",
                "Run the data_engineering pipeline again: it makes the tokenizer anew.",
            )
        return load_tokenizer(folder)

    def _is_whole(self, folder: Path) -> bool:
        try:
            files = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
        except (OSError, ValueError, RecursionError):
            return False
        return all(isinstance(content, dict) for content in files)
