"""Text files with labels: words and tags in the CoNLL format, and lines that begin with __label__ (fastText)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.decoding import read_lines
from transformer_foundry.core.data.sources.files.kind import DataFile

__all__ = ["CONLLU_COLUMNS", "FASTTEXT_MARK", "TAG_FIRST", "ConllTable", "FastTextTable", "is_conll_mark"]

_SAMPLE_LINES = 1000
CONLLU_COLUMNS = 10
_CONLLU_NAMES = ("id", "tokens", "lemmas", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_DOCUMENT_START = "-DOCSTART-"
FASTTEXT_MARK = "__label__"
"""What a label begins with in a file of fastText."""
TAG_FIRST = "a tag and its word"
"""What the evidence of a CoNLL file contains whose tags stand before the words."""
_COMMENT = "# "
_OUTSIDE = "O"


class ConllTable:
    """The sentences of one file as rows: tokens, ner_tags from the last column, others as column_2, column_3.

    In CoNLL-U, with its ten columns, the names are those of its definition.

    Args:
        file: The file.
        options: ``columns`` names the columns.
    """

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        self._file = file
        self._columns = options.columns
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the sentences.

        Raises:
            DataError: If a line has another number of columns than the first, with its number.
        """
        width = 0
        for sentence in self._sentences():
            for number, fields in sentence:
                width = width or len(fields)
                if len(fields) != width:
                    raise DataError(
                        f"{self._file.shown}, line {number}: it has {counted(len(fields), 'column')}, the first line"
                        f" {width}.",
                        "Expected a word and its tags, as many on each line.",
                        "Correct the line; data.document=section reads the file as plain text.",
                    )
            names = self._names(width)
            if width == CONLLU_COLUMNS:  # 1-2 is a contraction of two words, 1.1 a word that is left out
                sentence = [(number, fields) for number, fields in sentence if fields[0].isdecimal()]
            yield {name: [fields[place] for _, fields in sentence] for place, name in enumerate(names)}

    def line_of(self, number: int) -> int:
        """Return the line where sentence ``number`` (from 0) begins."""
        return next(itertools.islice(self._sentences(), number, None))[0][0]

    def _names(self, width: int) -> Sequence[str]:
        if self._columns is None:
            if TAG_FIRST in self._file.kind.evidence:
                return ["ner_tags", "tokens"]
            names = ["tokens", *(f"column_{place}" for place in range(2, width)), "ner_tags"]
            return _CONLLU_NAMES if width == CONLLU_COLUMNS else names
        if len(self._columns) != width:
            raise DataError(
                f"data.columns has {len(self._columns)} names, but {self._file.shown} has {counted(width, 'column')}.",
                f"Expected {width} names, one for each column.",
                "Correct data.columns, or set it to null.",
            )
        return self._columns

    def _sentences(self) -> Iterator[list[tuple[int, list[str]]]]:
        kind = self._file.kind
        lines = read_lines(self._file.path, kind.compression, kind.encoding or "utf-8", self._file.shown)
        for is_blank, group in itertools.groupby(enumerate(lines, start=1), lambda item: item[1].isspace()):
            if not is_blank:
                kept = [(number, line.strip("\r\n")) for number, line in group]
                kept = [(number, line) for number, line in kept if not is_conll_mark(line) or self._is_word(line)]
                if kept:
                    yield [(number, _split_fields(line)) for number, line in kept]

    def _is_word(self, line: str) -> bool:
        """Return whether a line that begins like a comment has the word "#": the fields of a word, and a known tag."""
        form, tags = self._known
        fields = _split_fields(line)
        is_formed = ("\t" in line, len(fields)) == form and len(fields) != CONLLU_COLUMNS
        has_spans = any(tag.startswith("B-") for tag in tags)
        is_tagged = fields[-1] in tags or (fields[-1] == _OUTSIDE and has_spans)
        return is_formed and is_tagged and line.startswith(_COMMENT)

    @functools.cached_property
    def _known(self) -> tuple[tuple[bool, int], set[str]]:
        """Whether tabs separate the fields of a word, how many there are, and all tags; of lines that are no marks."""
        kind = self._file.kind
        lines = read_lines(self._file.path, kind.compression, kind.encoding or "utf-8", self._file.shown)
        words = (line.strip("\r\n") for line in lines if not line.isspace() and not is_conll_mark(line))
        form, tags = None, set[str]()
        for word in words:
            fields = _split_fields(word)
            form = form or ("\t" in word, len(fields))
            tags.add(fields[-1])
        return form or (False, 0), tags


def is_conll_mark(line: str) -> bool:
    """Return whether a line looks like no word of a CoNLL file: a comment, or the beginning of a document."""
    return line.startswith((_DOCUMENT_START, _COMMENT))


def _split_fields(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()


class FastTextTable:
    """The lines of one file as rows: label and text; a list of labels if any of the first lines has several.

    Args:
        file: The file.
    """

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self.notes: list[str] = []
        first = itertools.islice(self._lines(), _SAMPLE_LINES)
        self._has_several = any(len(_split_labels(line)[0]) > 1 for _, line in first)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows.

        Raises:
            DataError: If a line has no label, or several where the first lines have one, with its number.
        """
        for number, line in self._lines():
            labels, text = _split_labels(line)
            if not labels or (len(labels) > 1 and not self._has_several):
                raise DataError(
                    f"{self._file.shown}, line {number}: it begins with {counted(len(labels), 'label')}:"
                    f" {line[:40].strip()!r}.",
                    f"Expected {FASTTEXT_MARK}NAME and a text, as in the first lines.",
                    "Correct the line.",
                )
            yield {"label": labels if self._has_several else labels[0], "text": text}

    def line_of(self, number: int) -> int:
        """Return the line of row ``number`` (from 0)."""
        return next(itertools.islice(self._lines(), number, None))[0]

    def _lines(self) -> Iterator[tuple[int, str]]:
        kind = self._file.kind
        lines = read_lines(self._file.path, kind.compression, kind.encoding or "utf-8", self._file.shown)
        return ((number, line) for number, line in enumerate(lines, start=1) if not line.isspace())


def _split_labels(line: str) -> tuple[list[str], str]:
    labels, rest = [], line.strip("\r\n")
    while rest.startswith(FASTTEXT_MARK):
        label, _, rest = rest.partition(" ")
        labels.append(label.removeprefix(FASTTEXT_MARK))
        rest = rest.lstrip()
    return labels, rest
