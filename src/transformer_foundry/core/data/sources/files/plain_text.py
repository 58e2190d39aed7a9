"""Plain text: what one text is (a line, a paragraph, a section, a file), and the texts. Reads fasta too."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted, format_size
from transformer_foundry.core.data.limits import LONGEST_LINE
from transformer_foundry.core.data.sources.files.decoding import read_lines
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.sections import (
    MARK,
    cut_line,
    cut_text,
    ends_with_mark,
    read_fastq,
    split_at_marks,
)

__all__ = ["ParallelTable", "TextTable", "choose_document"]

_PIECE = 2**20  # characters of a line that are in memory at a time
_SAMPLE_LINES = 5000
_SAMPLE_CHARACTERS = 2**18
_SAMPLE_FILES = 5
_SMALL_FILE = 2**15  # bytes
_LARGEST_FILE = 64 * 2**20  # bytes of a file that is one text
_SEVERAL = 5
_FEW_LINES = 3
_LONG_LINE = 5000  # characters; a mean above it is text without line breaks
_BLANK_SHARE = 0.02
_INDENTED_SHARE = 0.1
_WRAPPED_AT = (40, 200)  # characters; lines that end here by the width of a page
_FULL_LINE = 0.75  # of the longest usual line
_BROKEN_SHARE = 0.3
_STAMP = re.compile(  # [12/03/24, 10:00:11] of WhatsApp, 2024-03-12T10:00 of logs
    r"[\u200e\u200f]*\[?(\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./-]\d{1,2}[./-]\d{1,2}),?[ T]{1,2}\d{1,2}[:.]\d{2}"
)
_FEW_STAMPS, _STAMPED_SHARE = 3, 0.3
_SENTENCE_ENDS = (".", "!", "?", '"', "'", ":", ";", ")", "]", "}", "\u201d", "\u3002", "\uff01", "\uff1f")


class TextTable:
    """The texts of one file as rows with the column ``text``.

    Args:
        file: The file.
        document: line, paragraph, section or file; record for fasta, marked for texts that end with a mark,
            stamped for messages that begin with date and time.
        size: Characters of a section.
        part: Share of the file that is read, from and to, with document=file.
    """

    def __init__(self, file: DataFile, document: str, size: int, part: tuple[float, float] = (0, 1)) -> None:
        self._file = file
        self._document = document
        self._size = size
        self._part = part
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the texts; together they hold every character of the file but blanks between them.

        Raises:
            DataError: If the file is no text in its encoding.
        """
        label = {} if self._file.label is None else {"label": self._file.label}
        return ({"text": text, **label} for text in self._texts())

    def line_of(self, number: int) -> int | None:
        """Return None: texts are counted, not lines."""
        del number
        return None

    def _texts(self) -> Iterator[str]:
        if self._document == "line":
            for line in self._lines(longest=None):
                if not line.isspace():
                    yield line.rstrip("\n")
        elif self._document == "paragraph":
            yield from self._paragraphs()
        elif self._document == "record":
            yield from self._records()
        elif self._document == "file":
            yield from self._whole()
        elif self._document == "marked":
            yield from split_at_marks(self._lines())
        elif self._document == "stamped":
            yield from self._messages()
        else:
            yield from cut_text(self._lines(), self._size)

    def _lines(self, *, longest: int | None = _PIECE) -> Iterator[str]:
        kind = self._file.kind
        encoding = kind.encoding or "utf-8"
        return read_lines(self._file.path, kind.compression, encoding, self._file.shown, newline=None, longest=longest)

    def _paragraphs(self) -> Iterator[str]:
        for is_blank, lines in itertools.groupby(self._lines(longest=None), str.isspace):
            if not is_blank:
                yield self._join(lines, LONGEST_LINE, "a paragraph").rstrip("\n")

    def _messages(self) -> Iterator[str]:
        """Yield the lines from one with date and time to the line before the next."""
        numbers = itertools.count()
        at = 0

        def message_of(line: str) -> int:
            nonlocal at
            at = next(numbers) if _STAMP.match(line) else at
            return at

        for _, lines in itertools.groupby(self._lines(longest=None), message_of):
            text = self._join(lines, LONGEST_LINE, "a message").strip("\n")
            if text:
                yield text

    def _records(self) -> Iterator[str]:
        """Yield the sequences of a fasta file, or of a fastq file; long ones are cut."""
        if "fastq" in self._file.kind.evidence:
            for sequence in read_fastq(self._lines(longest=None), self._file.shown):
                yield from cut_line(sequence, self._size)
            return
        every = self._lines()
        first = next(every, "")
        if first.startswith(">"):  # only in old files does ; begin a header; here it is a comment
            every = (line for line in every if not line.startswith(";"))
        for is_header, lines in itertools.groupby(
            itertools.chain((first,), every), lambda line: line.startswith((">", ";"))
        ):
            rest = ""
            for line in () if is_header else lines:
                *pieces, rest = cut_line(rest + line.strip(), self._size)
                yield from pieces
            if rest:
                yield rest

    def _whole(self) -> Iterator[str]:
        text = self._join(self._lines(), _LARGEST_FILE, "a file")
        start, end = (_next_break(text, share) for share in self._part)
        yield text[start:end].strip("\n")

    def _join(self, lines: Iterable[str], largest: int, what: str) -> str:
        """Return the lines as one text; what counts is its size in memory, not that of the compressed file."""
        pieces, left = [], largest
        for line in lines:
            pieces.append(line)
            left -= len(line)
            if left < 0:
                raise DataError(
                    f"{self._file.shown} has {what} of more than {format_size(largest)}, too much for one text.",
                    f"Expected at most {format_size(largest)} with data.document={self._document}.",
                    "Set data.document=section: consecutive sections keep the order of the text.",
                )
        return "".join(pieces)


class ParallelTable:
    """The lines of two files as pairs: line n of one belongs to line n of the other.

    Args:
        file: The file of the sources, with the other one as its partner.
    """

    def __init__(self, file: DataFile) -> None:
        assert file.partner is not None
        self._files = (file, file.partner)
        self._names = file.sides
        self.notes = [
            f"Line by line, {file.shown} ({self._names[0]}) and {file.partner.shown} ({self._names[1]}) are pairs."
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the pairs, also those with an empty side.

        Raises:
            DataError: If one file has more lines.
        """
        sides = [
            read_lines(
                file.path, file.kind.compression, file.kind.encoding or "utf-8", file.shown, newline=None, longest=None
            )
            for file in self._files
        ]
        for number, lines in enumerate(itertools.zip_longest(*sides), start=1):
            if None in lines:
                counts = [
                    number - (line is None) + sum(1 for _ in rest) for line, rest in zip(lines, sides, strict=True)
                ]
                (one, first), (other, second) = zip(self._files, counts, strict=True)
                raise DataError(
                    f"{one.shown} has {counted(first, 'line')}, but {other.shown} has {second}.",
                    "Expected as many lines in both files: line n of one belongs to line n of the other.",
                    "Correct the files, or set data.span_corruption=true to learn from the texts without pairs.",
                )
            yield {name: line.rstrip("\n") for name, line in zip(self._names, lines, strict=True)}

    def line_of(self, number: int) -> int:
        """Return the line of pair ``number`` (from 0)."""
        return number + 1


def choose_document(files: Sequence[DataFile]) -> tuple[str, str]:
    """Return what one text is in plain text files, and the evidence in words.

    Small files are one text each. Lines are texts of their own if there are no blank lines between them, no
    indentation as in code, and no sentences broken at the width of a page; else texts are sections of paragraphs.

    Args:
        files: The files of the train split.
    """
    if files[0].partner is not None:
        return "line", "two files hold the sides of pairs"
    if files[0].label is not None:
        return "file", "each file is in the folder of its class"
    if all(file.kind.format == "fasta" for file in files):
        kind = "fastq" if "fastq" in files[0].kind.evidence else "fasta"
        return "record", f"each sequence of a {kind} file is a text"
    sizes = [file.path.stat().st_size for file in files]
    if len(files) >= _SEVERAL and sum(sizes) / len(files) <= _SMALL_FILE:
        return "file", f"{len(files)} files of {format_size(sum(sizes) / len(files))} on average"
    lines = _sample(files)
    filled = [line for line in lines if line.strip()]
    if not filled:
        return "section", "the file begins with blank lines"
    marks = sum(MARK.match(line) is not None for line in filled) + sum(ends_with_mark(line) for line in filled)
    if marks > 1:
        mark = next(found.group() for line in filled if (found := MARK.search(line))).strip()
        return "marked", f"{mark} ends each text, and is left out"
    mean = sum(map(len, filled)) / len(filled)
    if len(filled) < _FEW_LINES:
        return "section", f"there {'is' if len(filled) == 1 else 'are'} only {len(filled)} line{'s'[: len(filled) - 1]}"
    if mean > _LONG_LINE:
        return "section", f"lines of {mean:,.0f} characters on average are cut"
    stamped = [_STAMP.match(line) is not None for line in filled]
    if stamped[0] and sum(stamped) >= max(_FEW_STAMPS, _STAMPED_SHARE * len(filled)) and not all(stamped):
        return "stamped", "it begins with date and time, and lines without them belong to the one before"
    blank = 1 - len(filled) / len(lines)
    if blank > _BLANK_SHARE:
        return "section", "blank lines separate paragraphs"
    indented = sum(line[0] in " \t" for line in filled) / len(filled)
    if _INDENTED_SHARE < indented < 1:
        return "section", "lines are indented, as in code"
    if _is_wrapped(filled):
        return "section", "lines end in the middle of sentences"
    return "line", "there are no blank lines, and no sentences that go on in the next line"


def _sample(files: Sequence[DataFile]) -> list[str]:
    lines: list[str] = []
    for file in files[:_SAMPLE_FILES]:
        kind, left = file.kind, _SAMPLE_CHARACTERS
        source = read_lines(
            file.path, kind.compression, kind.encoding or "utf-8", file.shown, newline=None, longest=_PIECE
        )
        for line in itertools.islice(source, _SAMPLE_LINES):
            lines.append(line.rstrip("\n"))
            left -= len(line)
            if left < 0:
                break
        while lines and not lines[-1].strip():  # blank lines at the end of a file separate nothing
            lines.pop()
    return lines


def _is_wrapped(lines: Sequence[str]) -> bool:
    """Return whether lines are as wide as a page and end within sentences."""
    longest = sorted(map(len, lines))[int(0.95 * (len(lines) - 1))]
    if not _WRAPPED_AT[0] <= longest <= _WRAPPED_AT[1]:
        return False
    full = [place for place in range(len(lines) - 1) if len(lines[place]) >= _FULL_LINE * longest]
    broken = [
        place
        for place in full
        if not lines[place].rstrip().endswith(_SENTENCE_ENDS) and lines[place + 1].lstrip()[:1].islower()
    ]
    has_sentences = any(line.rstrip().endswith((".", "!", "?")) or ". " in line for line in lines)
    return has_sentences and len(full) > 0.5 * len(lines) and len(broken) > _BROKEN_SHARE * len(full)


def _next_break(text: str, share: float) -> int:
    """Return the place of the first line break at or after a share of the text."""
    if share in (0, 1):
        return int(share) * len(text)
    place = int(share * len(text))
    found = text.find("\n", place)
    return place if found < 0 else found
