"""Prepared data: the tokens of every split on the disk, with an index that is written last."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenized.memmap import ColumnEntry, RaggedArray, explain_write_errors, map_column
from transformer_foundry.core.data.tokenized.verify import damaged_tokens, verify_files
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.files.atomic import copy_file, replace_file
from transformer_foundry.core.files.provenance import digest_of
from transformer_foundry.core.models.contract import IGNORE_INDEX

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

FORMAT_VERSION = 4
_READABLE_VERSIONS = (3, FORMAT_VERSION)  # version 3 has no answer marks
_INDEX_FILE = "index.json"
_SEAL = "seal"
"""Key of the digest of the rest of the index."""


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
    recipes: NotRequired[Sequence[str]]


@dataclass(frozen=True)
class TokenSplit:
    """The rows of one split.

    Attributes:
        name: "train", "validation" or "test".
        input_ids: Rows of token ids. Causal LM: packed blocks that overlap by one token, so that each token except the
            very first is a target exactly once. Masked LM and span corruption: packed blocks without overlap. Others:
            one text per row.
        target_ids: Rows of target ids with their end token (pairs), else None.
        labels: (rows,) int64 class ids (sequence classification), (rows,) float64 numbers (regression), or (rows, L)
            int8 with 1 for a label that applies, 0 for one that does not, -100 if it is unknown (multi-label), else
            None.
        token_labels: Rows of class ids, -100 for tokens without a class (token classification), else None.
        answer_marks: Rows of 1 for the tokens of answers and 0 for the others, if only answers are learned, else None.
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
    answer_marks: RaggedArray | None = None

    def __repr__(self) -> str:
        return f"TokenSplit({self.name!r}, rows={len(self)}, targets={self.target_count}, documents={self.documents})"

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def target_count(self) -> int:
        """Targets in one pass: tokens to predict, or texts to classify (masked LM: tokens that may be masked)."""
        if self.target_ids is not None:
            return int(self.target_ids.offsets[-1])
        if self.labels is not None:
            return int((self.labels != IGNORE_INDEX).sum()) if self.labels.ndim == 2 else len(self.labels)
        if self.token_labels is not None:
            return self.counts["labelled_tokens"]
        if self.answer_marks is not None:
            return self.counts["answer_tokens"]
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
        baselines: Results of simple statistics on the validation split, see ``measure_baselines``.
        label_names: Names of the classes in the order of their ids, else None.
        source: Name of the source.
        notes: What the user should know about the preparation.
        folder: The folder of the files; None in memory.
        texts: Statistics of the raw texts: columns, duplicates, problems, languages.
        tokenizer: Digest of the tokenizer; empty if it is unknown.
        recipes: Further fingerprints that gave the same rows, as those of a later version of this library.
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
    recipes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows = ", ".join(f"{name}={len(split)} rows" for name, split in self.splits.items())
        return (
            f"TokenSplits({self.task}, {rows}, vocab_size={self.vocab_size}, max_length={self.max_length}, "
            f"source={self.source[:80]!r}, fingerprint={self.fingerprint[:12]!r})"
        )

    @property
    def index_file(self) -> Path | None:
        """The file that was written last; None in memory."""
        return None if self.folder is None else self.folder / _INDEX_FILE

    def is_made_by(self, fingerprint: str) -> bool:
        """Return whether a preparation with this fingerprint gives these rows."""
        return fingerprint in (self.fingerprint, *self.recipes)

    def has_rows_of(self, other: TokenSplits) -> bool:
        """Return whether the files of both hold the same rows for the same model: every byte is compared."""
        mine, theirs = _index_of(self), _index_of(other)
        keys = ("task", "vocab_size", "max_length", "special", "tokenizer", "label_names")
        if mine is None or theirs is None or any(mine.get(key) != theirs.get(key) for key in keys):
            return False
        return all(
            self._has_rows(mine["splits"][name], theirs["splits"][name], other, (mine, theirs)) for name in self.splits
        )

    def _has_rows(self, mine: SplitEntry, theirs: SplitEntry, other: TokenSplits, indexes: tuple[Index, Index]) -> bool:
        assert self.folder is not None
        assert other.folder is not None
        if mine["overlap"] != theirs["overlap"] or _shape_of(mine) != _shape_of(theirs):
            return False
        here, there = self.folder / indexes[0]["data_folder"], other.folder / indexes[1]["data_folder"]
        files = [column["file"] for column in mine["columns"].values()]
        return all(filecmp.cmp(here / name, there / name, shallow=False) for name in files)

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
    def target_scale(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the training numbers (regression), 1 if they are all equal; else None."""
        if self.task != "regression" or self.train.labels is None or not len(self.train.labels):
            return None
        return float(np.mean(self.train.labels)), float(np.std(self.train.labels)) or 1.0

    @property
    def splits(self) -> dict[str, TokenSplit]:
        """The three splits by name; the test split may have no rows."""
        return {split.name: split for split in (self.train, self.validation, self.test)}


def _shape_of(split: SplitEntry) -> dict[str, tuple[str, str, int]]:
    return {name: (column["file"], column["dtype"], column["count"]) for name, column in split["columns"].items()}


def _index_of(splits: TokenSplits) -> Index | None:
    return None if splits.folder is None else _read_index(splits.folder)


def read_fingerprint(folder: str | Path) -> str | None:
    """Return the fingerprint of the finished preparation in ``folder``; None if there is none."""
    index = _read_index(Path(folder))
    return None if index is None else str(index["fingerprint"])


def find_splits(folder: str | Path, fingerprint: str) -> TokenSplits | None:
    """Return the preparation in ``folder`` if it is complete and has this fingerprint."""
    index = _read_index(Path(folder))
    if index is None or fingerprint not in (index["fingerprint"], *index.get("recipes", ())):
        return None
    try:
        return load_splits(folder)
    except DataError:  # a file is missing or truncated: prepare again
        return None


def load_splits(folder: str | Path) -> TokenSplits:
    """Memory-map the preparation in ``folder``, after its files are verified.

    Raises:
        DataError: If it was never finished, or a file is missing or damaged.
    """
    folder = Path(folder)
    index = _read_index(folder)
    if index is None and (folder / _INDEX_FILE).is_file():
        raise damaged_tokens(folder / _INDEX_FILE)
    if index is None:
        raise DataError(
            f"There is no finished data preparation in {folder}.",
            f"Expected {_INDEX_FILE}, which is written last.",
            "Run the data_engineering pipeline first.",
        )
    splits = map_splits(index, folder)
    verify_files(index, folder / index["data_folder"])
    return splits


def map_splits(index: Index, folder: Path) -> TokenSplits:
    """Memory-map the files in ``folder`` that ``index`` describes."""
    data_folder = folder / index["data_folder"]
    label_count = len(index["label_names"] or ()) if index["task"] == "multi_label_classification" else None
    splits = {name: _map_split(data_folder, name, values, label_count) for name, values in index["splits"].items()}
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
        recipes=tuple(index.get("recipes", ())),
    )


def write_index(folder: Path, index: Index) -> None:
    """Finish a preparation: replace the index of ``folder`` in one step, then delete folders it does not name."""
    content = {"format_version": FORMAT_VERSION, **index}
    replace_file(folder / _INDEX_FILE, json.dumps({**content, _SEAL: digest_of(content)}, indent=2))
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
    index["recipes"] = splits.recipes
    here = find_splits(folder, splits.fingerprint)
    if here is not None and here.recipes == splits.recipes:
        return here
    with explain_write_errors(folder):
        if here is None:
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
    if not isinstance(index, dict) or index.get("format_version") not in _READABLE_VERSIONS:
        return None
    seal = index.pop(_SEAL, None)
    is_whole = seal is None or seal == digest_of(index)  # earlier versions have none
    del index["format_version"]
    return cast("Index", index) if is_whole else None


def _map_split(folder: Path, name: str, values: SplitEntry, label_count: int | None) -> TokenSplit:
    columns = {column: map_column(folder, description) for column, description in values["columns"].items()}
    targets = RaggedArray(columns["target_ids"], columns["target_offsets"]) if "target_ids" in columns else None
    offsets, overlap = columns["input_offsets"], values["overlap"]
    tags = RaggedArray(columns["token_labels"], offsets) if "token_labels" in columns else None
    marks = RaggedArray(columns["answer_marks"], offsets, overlap=overlap) if "answer_marks" in columns else None
    labels = columns.get("labels")
    if labels is not None and label_count is not None:
        labels = labels.reshape(-1, label_count)
    return TokenSplit(
        name=name,
        input_ids=RaggedArray(columns["input_ids"], offsets, overlap=overlap),
        target_ids=targets,
        labels=labels,
        text_bytes=values["text_bytes"],
        documents=values["documents"],
        counts=values["counts"],
        token_labels=tags,
        answer_marks=marks,
    )
