"""Kedro dataset of a corpus, which ``core.data`` reads: its description in JSON, and the corpus within one process."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import Version

from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.sources.read import CorpusDescription
from transformer_foundry.datasets.atomic_json import AtomicJSONDataset
from transformer_foundry.datasets.storage.location import refuse_version

__all__ = ["CorpusDataset"]


class CorpusDataset(AbstractDataset[Corpus, Corpus | CorpusDescription]):
    """Keeps the description of a corpus, with its digest; the text stays where it is.

    In the process that saved it, loading returns the opened corpus, which has read its source already. In another
    process it returns the description, whose method ``open`` opens it again.

    Args:
        filepath: The JSON file, with a protocol of fsspec if it is not on this machine.
        version: Refused: the text itself is not kept.
        credentials: Arguments of the file system of fsspec that are secret.
        fs_args: Other arguments of the file system.
        metadata: Ignored; for users and plugins.

    Raises:
        ParameterError: For ``versioned: true`` or a protocol that cannot be used.
    """

    # The opened corpus is in the memory of one process.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        refuse_version(version, f"The text of the corpus in {filepath} is not kept.", "Remove 'versioned'.")
        self._file = AtomicJSONDataset(filepath=filepath, credentials=credentials, fs_args=fs_args)
        self._corpus: Corpus | None = None
        self.metadata = metadata

    def load(self) -> Corpus | CorpusDescription:
        """Return the corpus, or its description if another process opened it."""
        if self._corpus is not None:
            return self._corpus
        return CorpusDescription(self._file.load())

    def save(self, data: Corpus) -> None:
        """Keep the corpus and write its description."""
        self._corpus = data
        self._file.save(data.describe())

    def _exists(self) -> bool:
        return bool(self._file.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._file._describe()["filepath"]}
