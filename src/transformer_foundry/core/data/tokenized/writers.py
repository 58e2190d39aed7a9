"""Writers of the documents of one split as rows of ids, one for each kind of task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from transformer_foundry.core.data.document import Document
from transformer_foundry.core.data.tokenized.dataset import SplitEntry
from transformer_foundry.core.data.tokenized.memmap import ColumnEntry, ColumnWriter
from transformer_foundry.core.data.tokenized.packing import BestFitPacker, block_offsets
from transformer_foundry.core.data.tokenizer.tokenizer import IDS, Tokenizer
from transformer_foundry.core.models.contract import IGNORE_INDEX

__all__ = ["SplitWriter", "open_writer"]

_MARK_BIT = 31  # ids are far below 2^31


class SplitWriter(Protocol):
    """Writes the documents of a split in batches."""

    def add(self, documents: Sequence[Document]) -> None:
        """Write a batch of documents."""

    def close(self) -> SplitEntry:
        """Finish the files and return the entry of the split in the index."""


def open_writer(
    task: str,
    folder: Path,
    split: str,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    corrupts_spans: bool,
    learns_answers: bool = False,
    is_stream: bool = False,
    label_count: int = 0,
) -> SplitWriter:
    """Return the writer for ``task``.

    Args:
        task: The task of the data.
        folder: Folder of the files.
        split: The split, which begins their names.
        tokenizer: Makes the ids.
        max_length: Longest row.
        corrupts_spans: Whether rows are texts in which spans will be hidden.
        learns_answers: Whether the tokens of answers are marked.
        is_stream: Whether rows are parts of a stream of ids, which get no end tokens.
        label_count: Number of labels that a text may have (multi-label classification).
    """
    files = _Files(folder, split, tokenizer)
    if learns_answers:
        return _AnswerWriter(files, max_length, overlap=1)
    if task in ("causal_lm", "masked_lm") or corrupts_spans:
        # Span corruption makes a row at most one token longer: its end.
        overlap = int(task == "causal_lm")
        return _PackedWriter(files, max_length - corrupts_spans, overlap, is_stream=is_stream)
    if task == "seq2seq_lm":
        return _Seq2SeqWriter(files, max_length)
    if task == "token_classification":
        return _TokenClassWriter(files, max_length)
    if task == "regression":
        return _NumberWriter(files, max_length)
    if task == "multi_label_classification":
        return _LabelsWriter(files, max_length, label_count)
    return _ClassWriter(files, max_length)


class _Files:
    """File names and dtypes of the columns of a split."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer) -> None:
        self._folder = folder
        self._split = split
        self.tokenizer = tokenizer

    def ids(self, name: str) -> ColumnWriter:
        """Open a column of token ids."""
        return self.column(name, np.uint16 if self.tokenizer.vocab_size <= 2**16 else np.uint32)

    def column(self, name: str, dtype: type) -> ColumnWriter:
        """Open a column."""
        return ColumnWriter(self._folder / f"{self._split}-{name}.bin", dtype)


class _PackedWriter:
    """One stream of documents, each between its special tokens, cut into blocks of one length."""

    def __init__(self, files: _Files, row_length: int, overlap: int, *, is_stream: bool = False) -> None:
        special = files.tokenizer.special
        self._files = files
        self._values = files.ids("input_ids")
        self._row_length = row_length
        self._overlap = overlap
        self._packer = BestFitPacker(row_length - overlap)
        self._before = [] if special.bos is None or special.bos == special.eos else [special.bos]
        self._after = [] if special.eos is None or is_stream else [special.eos]
        if files.tokenizer.algorithm == IDS:  # they are used as they are
            self._before = []
        self._documents = self._text_bytes = 0

    def add(self, documents: Sequence[Document]) -> None:
        """Tokenize, and write the documents that fit best."""
        if not self._documents and not self._before and self._overlap:
            self._values.append(self._after)  # the first document also follows an end token
        texts = [document.text for document in documents]
        for ids in self._files.tokenizer.encode_batch(texts, add_special_tokens=False):
            after = [] if ids[-1:] == self._after else self._after  # given ids may have their own end
            row = np.array([*self._before, *ids, *after], np.uint32)
            if len(row):
                self._write(self._packer.add(row))
        self._documents += len(documents)
        self._text_bytes += sum(len(text.encode()) for text in texts)

    def close(self) -> SplitEntry:
        """Write the waiting documents and the offsets of the blocks."""
        self._write(self._packer.flush())
        count = self._values.count
        overlap = self._overlap if count > 1 else 0
        offsets = self._files.column("input_offsets", np.int64)
        offsets.append(block_offsets(count, self._row_length, overlap))
        columns = {"input_ids": self._values.close(), "input_offsets": offsets.close()}
        counts = {"tokens": count, "truncated_rows": 0, "truncated_tokens": 0}
        counts["cut_documents"] = self._packer.cut_documents
        return _describe(columns, overlap, self._text_bytes, self._documents, counts)

    def _write(self, ready: Iterable[np.ndarray]) -> None:
        for row in ready:
            self._values.append(row)


class _AnswerWriter(_PackedWriter):
    """A packed stream in which the tokens of answers, and the ends of texts that end with one, are marked."""

    def __init__(self, files: _Files, row_length: int, overlap: int) -> None:
        super().__init__(files, row_length, overlap)
        self._marks = files.column("answer_marks", np.uint8)
        self._answer_tokens = 0

    def add(self, documents: Sequence[Document]) -> None:
        """Tokenize, and write the documents that fit best."""
        if not self._documents and not self._before:
            self._write([np.array(self._after, np.uint32)])  # the first document also follows an end token
        texts = [document.text for document in documents]
        encodings = self._files.tokenizer.backend.encode_batch(texts, add_special_tokens=False)
        for document, encoding in zip(documents, encodings, strict=True):
            spans = document.answers or ()
            ends_learned = bool(spans) and spans[-1][1] == len(document.text)
            marks = [0] * len(self._before) + _mark_tokens(encoding.offsets, spans) + [ends_learned] * len(self._after)
            ids = np.array([*self._before, *encoding.ids, *self._after], np.uint32)
            # A mark is the highest bit of its id while documents wait to be packed.
            self._write(self._packer.add(ids | np.array(marks, np.uint32) << _MARK_BIT))
            self._text_bytes += sum(len(document.text[start:end].encode()) for start, end in spans)
        self._documents += len(documents)

    def close(self) -> SplitEntry:
        """Write the waiting documents, the marks and the offsets of the blocks."""
        entry = super().close()
        entry["columns"]["answer_marks"] = self._marks.close()
        entry["counts"]["answer_tokens"] = self._answer_tokens
        return entry

    def _write(self, ready: Iterable[np.ndarray]) -> None:
        for row in ready:
            self._values.append(row & ~np.uint32(1 << _MARK_BIT))
            marks = (row >> _MARK_BIT).astype(np.uint8)
            self._marks.append(marks)
            self._answer_tokens += int(marks.sum())


def _mark_tokens(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return 1 for each token that has a character of one of the spans, in order, else 0."""
    marks, number = [], 0
    for start, end in offsets:
        while number < len(spans) and spans[number][1] <= start:
            number += 1
        marks.append(int(number < len(spans) and start < spans[number][1] and end > spans[number][0]))
    return marks


class _Seq2SeqWriter:
    """One source row and one target row per document."""

    def __init__(self, files: _Files, max_length: int) -> None:
        self._sources = _RowColumn(files, "input", max_length)
        self._targets = _RowColumn(files, "target", max_length)

    def add(self, documents: Sequence[Document]) -> None:
        """Tokenize and write."""
        self._sources.append([document.text for document in documents])
        self._targets.append([document.target or "" for document in documents])

    def close(self) -> SplitEntry:
        """Finish both sides."""
        columns = {**self._sources.close(), **self._targets.close()}
        counts = {name: count + self._targets.counts[name] for name, count in self._sources.counts.items()}
        return _describe(columns, 0, self._targets.text_bytes, self._sources.rows, counts)


class _ClassWriter:
    """One row per document, or pair of texts, and its class."""

    dtype: type[np.generic] = np.int64

    def __init__(self, files: _Files, max_length: int) -> None:
        self._rows = _RowColumn(files, "input", max_length)
        self._labels = files.column("labels", self.dtype)

    def add(self, documents: Sequence[Document]) -> None:
        """Tokenize and write."""
        self._rows.append([document.text for document in documents], [document.pair for document in documents])
        self._labels.append(self.labels_of(documents))

    def labels_of(self, documents: Sequence[Document]) -> np.ndarray:
        """Return what is learned about each document."""
        return np.array([int(document.label or 0) for document in documents], self.dtype)

    def close(self) -> SplitEntry:
        """Finish the files."""
        columns = {**self._rows.close(), "labels": self._labels.close()}
        return _describe(columns, 0, self._rows.text_bytes, self._rows.rows, self._rows.counts)


class _NumberWriter(_ClassWriter):
    """One row per document, or pair of texts, and its number."""

    dtype = np.float64

    def labels_of(self, documents: Sequence[Document]) -> np.ndarray:
        """Return the number of each document."""
        return np.array([document.number for document in documents], self.dtype)


class _LabelsWriter(_ClassWriter):
    """One row per document, or pair of texts, and for each label 1 if it applies, 0 if not, -100 if unknown."""

    dtype = np.int8

    def __init__(self, files: _Files, max_length: int, label_count: int) -> None:
        super().__init__(files, max_length)
        self._label_count = label_count

    def labels_of(self, documents: Sequence[Document]) -> np.ndarray:
        """Return the labels of each document, one after another."""
        flags = np.zeros((len(documents), self._label_count), self.dtype)
        for row, document in enumerate(documents):
            flags[row, list(map(int, document.present or ()))] = 1
            flags[row, list(map(int, document.unknown))] = IGNORE_INDEX
        return flags.ravel()


class _TokenClassWriter:
    """One row per document; the first token of each word has the class of the word."""

    def __init__(self, files: _Files, max_length: int) -> None:
        self._rows = _RowColumn(files, "input", max_length)
        self._labels = files.column("token_labels", np.int32)
        self._tokenizer = files.tokenizer
        self._counts = {"labelled_tokens": 0, "words": 0}

    def add(self, documents: Sequence[Document]) -> None:
        """Tokenize and write."""
        encodings = self._tokenizer.backend.encode_batch([document.text for document in documents])
        for document, encoding in zip(documents, encodings, strict=True):
            labels = _align_tags(document, encoding.offsets)
            ids = self._rows.write(list(encoding.ids), document.text)
            if len(ids) < len(labels):
                was_replaced = ids[-1] != encoding.ids[len(ids) - 1]
                labels = [*labels[: len(ids) - was_replaced], *[IGNORE_INDEX] * was_replaced]
            self._labels.append(labels)
            self._counts["labelled_tokens"] += sum(label != IGNORE_INDEX for label in labels)
            self._counts["words"] += len(document.words or ())

    def close(self) -> SplitEntry:
        """Finish the files."""
        columns = {**self._rows.close(), "token_labels": self._labels.close()}
        return _describe(columns, 0, self._rows.text_bytes, self._rows.rows, self._rows.counts | self._counts)


class _RowColumn:
    """One row of ids per text, truncated to the maximum length; its special tokens are always kept."""

    def __init__(self, files: _Files, name: str, max_length: int) -> None:
        self._name = name
        self._tokenizer = files.tokenizer
        self._max_length = max_length
        self._values = files.ids(f"{name}_ids")
        self._offsets = files.column(f"{name}_offsets", np.int64)
        self._offsets.append([0])
        self.rows = self.text_bytes = 0
        self.counts = {"tokens": 0, "truncated_rows": 0, "truncated_tokens": 0}

    def append(self, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> None:
        """Tokenize and write ``texts``, each with its pair if there is one."""
        if pairs is not None and pairs and pairs[0] is not None:
            return self._append_pairs(list(zip(texts, pairs, strict=True)))
        for text, ids in zip(texts, self._tokenizer.encode_batch(texts), strict=True):
            self.write(ids, text)

    def write(self, ids: list[int], text: str) -> list[int]:
        """Write one row and return it after truncation."""
        kept = self._cut(ids)
        self.text_bytes += len((text if kept is ids else self._tokenizer.decode(kept)).encode())
        self._write(kept)
        return kept

    def close(self) -> dict[str, ColumnEntry]:
        """Finish both files and return their entries in the index."""
        return {f"{self._name}_ids": self._values.close(), f"{self._name}_offsets": self._offsets.close()}

    def _append_pairs(self, pairs: list[tuple[str, str | None]]) -> None:
        """Write two texts per row; the longer one is truncated first."""
        backend = self._tokenizer.backend
        backend.enable_truncation(self._max_length, strategy="longest_first")
        try:
            encodings = backend.encode_batch([(text, pair or "") for text, pair in pairs])
        finally:
            backend.no_truncation()
        for (text, pair), encoding in zip(pairs, encodings, strict=True):
            lost = sum(sum(mask == 0 for mask in part.special_tokens_mask) for part in encoding.overflowing)
            self.counts["truncated_rows"] += bool(lost)
            self.counts["truncated_tokens"] += lost
            self.text_bytes += len(f"{text}{pair}".encode())
            self._write(list(encoding.ids))

    def _write(self, ids: list[int]) -> None:
        self._values.append(ids)
        self._offsets.append([self._values.count])
        self.counts["tokens"] += len(ids)
        self.rows += 1

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


def _align_tags(document: Document, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return a label for each token: that of the word that begins in it, -100 for the others.

    Words are found by their offsets in the text: the text is tokenized as a whole, as in inference, not word by word.
    """
    words, tags = document.words or (), document.tags or ()
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    labels, next_word = [], 0
    for start, end in offsets:
        # A token may begin with the space before its word; a token of several words has the label of the first.
        begins = next_word < len(words) and start <= starts[next_word] < end
        labels.append(int(tags[next_word]) if begins else IGNORE_INDEX)
        while next_word < len(words) and starts[next_word] < end:
            next_word += 1
    return labels


def _describe(
    columns: dict[str, ColumnEntry], overlap: int, text_bytes: int, documents: int, counts: dict[str, int]
) -> SplitEntry:
    return {"columns": columns, "overlap": overlap, "text_bytes": text_bytes, "documents": documents, "counts": counts}
