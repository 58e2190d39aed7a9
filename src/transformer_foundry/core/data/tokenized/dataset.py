"""Prepared data: the tokens of every split on the disk, with an index that is written last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenized.memmap import ColumnEntry, RaggedArray, explain_write_errors, map_column
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.files.atomic import copy_file, replace_file

__all__ = [
    "Index",
    "SplitEntry",
    "TokenSplit",
    "TokenSplits",
    "copy_splits",
    "find_splits",
    "load_splits",
    "map_splits",
    "read_fingerprint",
    "write_index",
]

FORMAT_VERSION = 3
_INDEX_FILE = "index.json"


class SplitEntry(TypedDict):
    """The entry of a split in the index."""

    columns: dict[str, ColumnEntry]
    overlap: int
    text_bytes: int
    documents: int
    counts: dict[str, int]


class Index(TypedDict):
    """The index of a preparation, as it is written to JSON; see ``TokenSplits``."""

    fingerprint: str
    data_folder: str
    task: str
    vocab_size: int
    max_length: int
    special: dict[str, Any]
    tokenizer: str
    label_names: Sequence[str] | None
    source: str
    notes: Sequence[str]
    texts: dict[str, Any]
    splits: dict[str, SplitEntry]
    baselines: dict[str, float]


@dataclass(frozen=True)
class TokenSplit:
    """The rows of one split.

    Attributes:
        name: "train", "validation" or "test".
        input_ids: Rows of token ids. Causal LM: packed blocks that overlap by one token, so that each token except the
            very first is a target exactly once. Masked LM and span corruption: packed blocks without overlap. Others:
            one text per row.
        target_ids: Rows of target ids with their end token (pairs), else None.
        labels: (rows,) int64 class ids (sequence classification), else None.
        token_labels: Rows of class ids, -100 for tokens without a class (token classification), else None.
        text_bytes: UTF-8 bytes of the text of the targets: bits per byte are the sum of the loss in bits over one pass,
            divided by this.
        documents: Number of documents.
        counts: Tokens, truncated rows and tokens, cut documents, and labeled tokens and words of the split.
    """

    name: str
    input_ids: RaggedArray
    target_ids: RaggedArray | None = None
    labels: np.ndarray | None = None
    text_bytes: int = 0
    documents: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    token_labels: RaggedArray | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def target_count(self) -> int:
        """Targets in one pass: tokens to predict, or texts to classify (masked LM: tokens that may be masked)."""
        if self.target_ids is not None:
            return int(self.target_ids.offsets[-1])
        if self.labels is not None:
            return len(self.labels)
        if self.token_labels is not None:
            return self.counts["labelled_tokens"]
        return int(self.input_ids.offsets[-1])

    def is_packed(self, task: str) -> bool:
        """Return whether the rows are blocks of one stream, all of one length, and not single texts."""
        return task in ("causal_lm", "masked_lm") or (task == "seq2seq_lm" and self.target_ids is None)


@dataclass(frozen=True)
class TokenSplits:
    """All splits of a dataset, and what is needed to make batches of them.

    Attributes:
        task: The task of the model.
        vocab_size: Number of ids of the tokenizer; at most that of the model.
        max_length: Longest row, in tokens.
        fingerprint: sha256 of data, tokenizer and settings.
        special: Ids of the special tokens.
        baselines: Results of simple statistics on the validation split: ``unigram_loss`` and
            ``bigram_loss`` in nats per target token, ``prior_loss`` in nats, ``majority_accuracy`` and
            ``naive_bayes_accuracy`` as shares of 1.
        label_names: Names of the classes in the order of their ids, else None.
        source: Name of the source.
        notes: What the user should know about the preparation.
        folder: The folder of the files; None in memory.
        texts: Statistics of the raw texts: columns, duplicates, problems, languages.
        tokenizer: Digest of the tokenizer; empty if it is unknown.
    """

    train: TokenSplit
    validation: TokenSplit
    test: TokenSplit
    task: str
    vocab_size: int
    max_length: int
    fingerprint: str
    special: SpecialIds
    baselines: dict[str, float] = field(default_factory=dict)
    label_names: tuple[str, ...] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    folder: Path | None = None
    texts: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise an error if these tokens were made with another tokenizer, as after an interrupted preparation.

        Raises:
            DataError: If the tokenizer is another one.
        """
        if self.tokenizer and self.tokenizer != tokenizer.digest():
            raise DataError(
                f"The tokens of {self.source} were not made with the tokenizer that is stored beside them.",
                "Expected both from one preparation; a later preparation was interrupted.",
                "Run the data_engineering pipeline again.",
            )

    @property
    def splits(self) -> dict[str, TokenSplit]:
        """The three splits by name; the test split may have no rows."""
        return {split.name: split for split in (self.train, self.validation, self.test)}


def read_fingerprint(folder: str | Path) -> str | None:
    """Return the fingerprint of the finished preparation in ``folder``; None if there is none."""
    index = _read_index(Path(folder))
    return None if index is None else str(index["fingerprint"])


def find_splits(folder: str | Path, fingerprint: str) -> TokenSplits | None:
    """Return the preparation in ``folder`` if it is complete and has this fingerprint."""
    if read_fingerprint(folder) != fingerprint:
        return None
    try:
        return load_splits(folder)
    except DataError:  # a file is missing or truncated: prepare again
        return None


def load_splits(folder: str | Path) -> TokenSplits:
    """Memory-map the preparation in ``folder``.

    Raises:
        DataError: If it was never finished, or a file is missing or truncated.
    """
    folder = Path(folder)
    index = _read_index(folder)
    if index is None:
        raise DataError(
            f"There is no finished data preparation in {folder}.",
            f"Expected {_INDEX_FILE}, which is written last.",
            "Run the data_engineering pipeline first.",
        )
    return map_splits(index, folder)


def map_splits(index: Index, folder: Path) -> TokenSplits:
    """Memory-map the files in ``folder`` that ``index`` describes."""
    data_folder = folder / index["data_folder"]
    splits = {name: _map_split(data_folder, name, values) for name, values in index["splits"].items()}
    return TokenSplits(
        **splits,
        task=index["task"],
        vocab_size=index["vocab_size"],
        max_length=index["max_length"],
        fingerprint=index["fingerprint"],
        special=SpecialIds.from_json(index["special"]),
        baselines=index["baselines"],
        label_names=None if index["label_names"] is None else tuple(index["label_names"]),
        source=index["source"],
        notes=tuple(index["notes"]),
        texts=index["texts"],
        tokenizer=index["tokenizer"],
        folder=folder,
    )


def write_index(folder: Path, index: Index) -> None:
    """Finish a preparation: replace the index of ``folder`` in one step, then delete folders it does not name."""
    replace_file(folder / _INDEX_FILE, json.dumps({"format_version": FORMAT_VERSION, **index}, indent=2))
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != index["data_folder"]:
            shutil.rmtree(entry, ignore_errors=True)


def copy_splits(splits: TokenSplits, folder: str | Path) -> TokenSplits:
    """Copy a prepared dataset to ``folder``, unless it is already there, and load it from there.

    Raises:
        DataError: If ``splits`` is not on the disk, or ``folder`` cannot be written.
    """
    folder = Path(folder)
    index = None if splits.folder is None else _read_index(splits.folder)
    if splits.folder is None or index is None:
        raise DataError(
            "These splits are not on the disk.", "Expected splits made by prepare_splits.", "Call prepare_splits."
        )
    here = find_splits(folder, splits.fingerprint)
    if here is not None:
        return here
    with explain_write_errors(folder):
        _copy_files(splits.folder / index["data_folder"], folder / index["data_folder"])
        write_index(folder, index)
    return load_splits(folder)


def _copy_files(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in source.iterdir():
        copy_file(path, target / path.name)


def _read_index(folder: Path) -> Index | None:
    try:
        index = json.loads((folder / _INDEX_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_current = isinstance(index, dict) and index.get("format_version") == FORMAT_VERSION
    return cast("Index", index) if is_current else None


def _map_split(folder: Path, name: str, values: SplitEntry) -> TokenSplit:
    columns = {column: map_column(folder, description) for column, description in values["columns"].items()}
    targets = RaggedArray(columns["target_ids"], columns["target_offsets"]) if "target_ids" in columns else None
    tags = RaggedArray(columns["token_labels"], columns["input_offsets"]) if "token_labels" in columns else None
    return TokenSplit(
        name=name,
        input_ids=RaggedArray(columns["input_ids"], columns["input_offsets"], overlap=values["overlap"]),
        target_ids=targets,
        labels=columns.get("labels"),
        text_bytes=values["text_bytes"],
        documents=values["documents"],
        counts=values["counts"],
        token_labels=tags,
    )
