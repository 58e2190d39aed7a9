"""Turn a corpus into token rows on disk."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.data.baselines import measure_baselines
from transformer_foundry.core.data.documents import SPLIT_NAMES, Corpus, Document
from transformer_foundry.core.data.fitting import find_vocab_size
from transformer_foundry.core.data.lengths import choose_max_length
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.splits import (
    FORMAT_VERSION,
    TokenSplits,
    find_splits,
    load_splits,
    map_splits,
    write_index,
)
from transformer_foundry.core.data.storage import ColumnWriter
from transformer_foundry.core.data.tokenizers import Tokenizer
from transformer_foundry.core.errors import DataError

if TYPE_CHECKING:
    from transformer_foundry.core.exports.contract import Contract

__all__ = ["prepare_splits"]

_BATCH_DOCUMENTS = 512
_PACKED = ("causal_lm", "masked_lm")


def prepare_splits(
    corpus: Corpus,
    tokenizer: Tokenizer,
    contract: Contract,
    options: DataOptions,
    folder: str | Path | None = None,
    *,
    previous: TokenSplits | None = None,
) -> TokenSplits:
    """Tokenize every split of ``corpus`` into memory-mapped rows, measure the baselines, write the index last.

    Args:
        corpus: The documents.
        tokenizer: Turns them into ids.
        contract: The model's task and sizes.
        options: ``max_length`` counts; the rest is already in ``corpus`` and ``tokenizer``.
        folder: Where to write; None is a new temporary folder, for a Kedro dataset to copy from. A folder that
            already holds this very preparation is returned at once.
        previous: An earlier preparation, returned at once when it is this very one.

    Raises:
        DataError: If the tokenizer has more ids than the model, or there is not enough text.
    """
    max_length = choose_max_length(contract, options)
    _check_vocabulary(tokenizer, contract)
    fingerprint = _fingerprint(corpus, tokenizer, max_length)
    if previous is not None and previous.fingerprint == fingerprint:
        return previous
    folder = Path(tempfile.mkdtemp(prefix="token-splits-")) if folder is None else Path(folder)
    found = find_splits(folder, fingerprint)
    if found is not None:
        return found
    data_folder = folder / fingerprint[:16]
    shutil.rmtree(data_folder, ignore_errors=True)
    data_folder.mkdir(parents=True)
    writer = _SplitWriter(corpus, tokenizer, max_length, data_folder)
    index = {
        "fingerprint": fingerprint,
        "data_folder": data_folder.name,
        "task": corpus.task,
        "vocab_size": tokenizer.vocab_size,
        "max_length": max_length,
        "special": tokenizer.special.__dict__,
        "label_names": corpus.label_names,
        "source": corpus.name,
        "notes": _notes(corpus, tokenizer, contract),
        "splits": {name: writer.write(name) for name in SPLIT_NAMES},
        "baselines": {},
    }
    index["baselines"] = measure_baselines(map_splits(index, folder))
    write_index(folder, index)
    return load_splits(folder)


class _SplitWriter:
    """Writes one split after the other into a folder and says what the index should hold about it."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, max_length: int, folder: Path) -> None:
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._folder = folder

    def write(self, split: str) -> dict[str, Any]:
        """Write the files of ``split``."""
        if self._corpus.task in _PACKED:
            return self._write_packed(split)
        if self._corpus.task == "seq2seq_lm":
            return self._write_pairs(split)
        return self._write_labelled(split)

    def _write_packed(self, split: str) -> dict[str, Any]:
        """Write one stream of documents, each between its special tokens, and where its blocks begin."""
        special, values = self._tokenizer.special, self._ids_column(split, "input_ids")
        before = [] if special.bos is None or special.bos == special.eos else [special.bos]
        after = [] if special.eos is None else [special.eos]
        documents = text_bytes = 0
        for batch in self._batches(split):
            if values.count == 0 and not before:
                values.append(after)  # the first document, too, begins after an end
            texts = [document.text for document in batch]
            for ids in self._tokenizer.encode_batch(texts, add_special_tokens=False):
                values.append([*before, *ids, *after])
            documents += len(batch)
            text_bytes += _size(texts)
        overlap = 1 if self._corpus.task == "causal_lm" and values.count > 1 else 0
        offsets = ColumnWriter(self._folder / f"{split}-input_offsets.bin", np.int64)
        offsets.append(_block_offsets(values.count, self._max_length, overlap))
        columns = {"input_ids": values.close(), "input_offsets": offsets.close()}
        counts = {"tokens": values.count, "truncated_rows": 0, "truncated_tokens": 0}
        return _describe(columns, overlap, text_bytes, documents, counts)

    def _write_pairs(self, split: str) -> dict[str, Any]:
        sources, targets = self._row_column(split, "input"), self._row_column(split, "target")
        documents = 0
        for batch in self._batches(split):
            sources.append([document.text for document in batch])
            targets.append([document.target or "" for document in batch])
            documents += len(batch)
        columns = {**sources.close(), **targets.close()}
        counts = {name: sources.counts[name] + targets.counts[name] for name in sources.counts}
        return _describe(columns, 0, targets.text_bytes, documents, counts)

    def _write_labelled(self, split: str) -> dict[str, Any]:
        rows, labels = self._row_column(split, "input"), ColumnWriter(self._folder / f"{split}-labels.bin", np.int64)
        for batch in self._batches(split):
            rows.append([document.text for document in batch])
            labels.append([int(document.label or 0) for document in batch])
        columns = {**rows.close(), "labels": labels.close()}
        return _describe(columns, 0, rows.text_bytes, labels.count, rows.counts)

    def _batches(self, split: str) -> Iterator[list[Document]]:
        documents = self._corpus.documents(split)
        while batch := list(itertools.islice(documents, _BATCH_DOCUMENTS)):
            yield batch

    def _ids_column(self, split: str, name: str) -> ColumnWriter:
        id_type = np.uint16 if self._tokenizer.vocab_size <= 2**16 else np.uint32
        return ColumnWriter(self._folder / f"{split}-{name}.bin", id_type)

    def _row_column(self, split: str, name: str) -> _RowColumn:
        offsets = ColumnWriter(self._folder / f"{split}-{name}_offsets.bin", np.int64)
        return _RowColumn(name, self._tokenizer, self._max_length, self._ids_column(split, f"{name}_ids"), offsets)


class _RowColumn:
    """One row of ids for each text, cut to the longest length; the special tokens around it are never cut."""

    def __init__(
        self, name: str, tokenizer: Tokenizer, max_length: int, values: ColumnWriter, offsets: ColumnWriter
    ) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._values = values
        self._offsets = offsets
        self._offsets.append([0])
        self.text_bytes = 0
        self.counts = {"tokens": 0, "truncated_rows": 0, "truncated_tokens": 0}

    def append(self, texts: Sequence[str]) -> None:
        """Tokenize and write ``texts``."""
        for text, ids in zip(texts, self._tokenizer.encode_batch(texts), strict=True):
            kept = self._cut(ids)
            self.text_bytes += len((text if kept is ids else self._tokenizer.decode(kept)).encode())
            self._values.append(kept)
            self._offsets.append([self._values.count])
            self.counts["tokens"] += len(kept)

    def close(self) -> dict[str, Any]:
        """Finish both files and describe them."""
        return {f"{self._name}_ids": self._values.close(), f"{self._name}_offsets": self._offsets.close()}

    def _cut(self, ids: list[int]) -> list[int]:
        excess = len(ids) - self._max_length
        if excess <= 0:
            return ids
        self.counts["truncated_rows"] += 1
        self.counts["truncated_tokens"] += excess
        special = self._tokenizer.special
        if special.eos is not None and ids[-1] == special.eos:
            return [*ids[: self._max_length - 1], special.eos]
        return ids[: self._max_length]


def _describe(
    columns: dict[str, Any], overlap: int, text_bytes: int, documents: int, counts: dict[str, int]
) -> dict[str, Any]:
    return {
        "columns": columns,
        "overlap": overlap,
        "text_bytes": text_bytes,
        "documents": documents,
        "counts": counts,
    }


def _block_offsets(tokens: int, length: int, overlap: int) -> np.ndarray:
    """Return where blocks of ``length`` begin in a stream, and where the last one's own tokens end.

    Example:
        >>> _block_offsets(8, 4, overlap=1).tolist()  # rows 0..3, 3..6, 6..7
        [0, 3, 6, 7]
    """
    end = tokens - overlap
    return np.append(np.arange(0, end, length - overlap, dtype=np.int64), np.int64(max(end, 0)))


def _check_vocabulary(tokenizer: Tokenizer, contract: Contract) -> None:
    vocab_size = find_vocab_size(contract)
    if tokenizer.vocab_size > vocab_size:
        raise DataError(
            f"The tokenizer has {tokenizer.vocab_size} tokens but the model only {vocab_size}.",
            f"Expected at most {vocab_size}.",
            "Run the data_engineering pipeline for this model, or set data.tokenizer to 'auto'.",
        )


def _fingerprint(corpus: Corpus, tokenizer: Tokenizer, max_length: int) -> str:
    parts = (FORMAT_VERSION, corpus.stamp(), tokenizer.digest(), max_length)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _notes(corpus: Corpus, tokenizer: Tokenizer, contract: Contract) -> list[str]:
    notes, vocab_size = [], find_vocab_size(contract)
    if tokenizer.vocab_size < vocab_size:
        notes.append(
            f"The tokenizer has {tokenizer.vocab_size} of the model's {vocab_size} tokens: the text has no more."
        )
    classes = len(corpus.label_names or ())
    if contract.num_labels is not None and 0 < classes < contract.num_labels:
        notes.append(f"The data have {classes} classes, the model tells {contract.num_labels} apart.")
    if corpus.plan.leaks:
        notes.append(f"{corpus.plan.leaks} texts that a held-out split also holds were dropped.")
    if corpus.plan.empty:
        notes.append(f"{corpus.plan.empty} rows without text were dropped.")
    return notes


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)
