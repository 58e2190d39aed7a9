"""Sections of long texts: documents of a useful size that end at paragraphs; records of fastq."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from transformer_foundry.core.base.errors import DataError

__all__ = [
    "MARK",
    "RESIDUES",
    "cut_line",
    "cut_sections",
    "cut_text",
    "ends_with_mark",
    "read_fastq",
    "section_size",
    "split_at_marks",
    "split_paragraphs",
]

SECTION_CHARACTERS = 2000
_MIN_SECTIONS = 200  # a short text has shorter sections, so that its splits vary less
_MIN_SECTION_CHARACTERS = 200
_STOPS = "\u3002\uff01\uff1f\uff0e\uff1b.!?;"  # of Chinese and Japanese first
_JOINER = "\u200d"  # joins the character before it and the one after it
_JOINED = _JOINER + "\ufe0e\ufe0f\u20e3"
MARK = re.compile(r"<\|(?:end_?of_?text|eos|eot_id)\|>|(?:</s>|<eos>)(?=\s*$)")
"""What programs write between the texts that they join to one file."""
RESIDUES = re.compile(r"[A-Za-z*\-.]+\s*")
"""A line of a sequence in fasta and fastq."""
_LONGEST_MARKED = 2**20  # characters of a text between two marks
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)*")


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of ``text`` with their indentation, without blank lines."""
    return [part for part in _BLANK_LINES.split(text.strip("\n")) if part.strip()]


def cut_sections(paragraphs: Iterable[str], size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Join consecutive paragraphs until a section has at least ``size`` characters.

    Only the blank lines between sections are lost. Splits consist of sections: random paragraphs of a book would lose
    their context, and a whole book could not be split.
    """
    section: list[str] = []
    length = 0
    for paragraph in paragraphs:
        section.append(paragraph)
        length += len(paragraph)
        if length >= size:
            yield "\n\n".join(section)
            section, length = [], 0
    if section:
        yield "\n\n".join(section)


def section_size(characters: int) -> int:
    """Return the length of the sections of a text with this many characters."""
    return max(_MIN_SECTION_CHARACTERS, min(SECTION_CHARACTERS, characters // _MIN_SECTIONS))


def cut_text(lines: Iterable[str], size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Join lines to sections that end at a blank line, or before a line if a section gets too long.

    That line is not indented, so that an entry of a log or a function stays whole, unless three sections would fit. A
    line longer than two sections, as in a text without line breaks, is cut. Only blanks between sections are lost.

    Args:
        lines: Lines that end in a line feed; a line may come in several pieces, all but the last without one.
        size: Characters of a section.

    Example:
        >>> list(cut_text(["one\\n", "two\\n", "\\n", "three\\n"], size=4))
        ['one\\ntwo', 'three']
    """
    section: list[str] = []
    length, rest = 0, ""
    for line in lines:
        is_start = not rest and (line[0] not in " \t" or length >= 3 * size)
        if is_start and length >= 2 * size:
            yield "".join(section).rstrip()
            section, length = [], 0
        *pieces, rest = cut_line(rest + line, size)
        for piece in pieces:
            yield "".join([*section, piece])
            section, length = [], 0
        if not line.endswith("\n"):
            continue
        is_blank = not rest.strip()
        if section or not is_blank:
            section.append(rest)
            length += len(rest)
        rest = ""
        if length >= size and is_blank:
            yield "".join(section).rstrip()
            section, length = [], 0
    if "".join([*section, rest]).strip():
        yield "".join([*section, rest]).rstrip()


def ends_with_mark(line: str) -> bool:
    """Return whether a line of more than a mark ends with one.

    Example:
        >>> ends_with_mark("The end.<|endoftext|>"), ends_with_mark("<|endoftext|> is a token")
        (True, False)
    """
    marks = list(MARK.finditer(line))
    return bool(marks) and marks[-1].start() > 0 and not line[marks[-1].end() :].strip()


def split_at_marks(lines: Iterable[str]) -> Iterator[str]:
    """Yield the texts between marks that begin or end lines; a text of more than a million characters is cut.

    Example:
        >>> list(split_at_marks(["one\\n", "two\\n", "<|endoftext|>\\n", "three<|endoftext|>\\n", "four"]))
        ['one\\ntwo', 'three', 'four']
    """
    text: list[str] = []
    length = 0
    for line in lines:
        rest = line
        while found := MARK.match(rest):
            yield from _joined(text)
            text, length, rest = [], 0, rest[found.end() :].lstrip(" ")
        is_end = ends_with_mark(rest)
        if is_end:
            rest = rest[: list(MARK.finditer(rest))[-1].start()]
        text.append(rest)
        length += len(rest)
        if is_end or length > _LONGEST_MARKED:
            yield from _joined(text)
            text, length = [], 0
    yield from _joined(text)


def _joined(text: list[str]) -> Iterator[str]:
    found = "".join(text).strip("\n").removeprefix("<s>")
    if found.strip():
        yield found


def cut_line(line: str, size: int) -> Iterator[str]:
    """Yield pieces of about ``size`` characters, then the rest.

    A piece ends at the first blank after ``size`` characters, which is left out; in text without blanks, at the end of
    a sentence, else after ``size`` characters, but not between a letter and its accents.

    Example:
        >>> list(cut_line("ACGTACGTAC", 3)), list(cut_line("one two three four", 6))
        (['ACG', 'TAC', 'GTAC'], ['one two', 'three four'])
    """
    start = 0
    while len(line) - start > 2 * size:
        window = line[start + size : start + 2 * size]
        blank = window.find(" ")
        if blank >= 0:
            yield line[start : start + size + blank]
            start += size + blank + 1
            continue
        stops = [place + 1 for place in map(window.find, _STOPS) if place >= 0]
        cut = size + (min(stops) if stops else 0)
        while cut < 2 * size and _tears(line, start + cut):
            cut += 1
        yield line[start : start + cut]
        start += cut
    yield line[start:]


def _tears(line: str, place: int) -> bool:
    """Return whether a cut before ``place`` parts characters that are shown as one."""
    return unicodedata.combining(line[place]) > 0 or line[place] in _JOINED or line[place - 1] == _JOINER


def read_fastq(lines: Iterable[str], shown: str) -> Iterator[str]:
    """Yield the sequences of fastq, wrapped or not; blank lines count for nothing, and empty sequences are left out.

    Args:
        lines: The lines of the file.
        shown: Its name in messages.

    Raises:
        DataError: If a record is damaged, with its line.
    """
    name, at, sequence, qualities = "", 0, "", -1  # qualities: how many are read; -1 before the line of +
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        if qualities >= len(sequence) or not name:
            if not line.startswith("@"):
                raise _fastq_error(shown, number, f"begins with {line[:20]!r}, where a record begins")
            name, at, sequence, qualities = line, number, "", -1
        elif qualities < 0 and line.startswith("+"):
            qualities = 0
        elif qualities < 0 and not RESIDUES.fullmatch(line):
            raise _fastq_error(shown, number, f"has {line[:20]!r} in the sequence of {name[:40]}")
        elif qualities < 0:
            sequence += line
        else:
            qualities += len(line)
            if qualities > len(sequence):
                raise _fastq_error(shown, at, f"has {len(sequence)} letters and another number of qualities")
            if qualities == len(sequence):
                yield sequence
    if name and qualities < 0:
        raise _fastq_error(shown, at, "has no line of + and no qualities")
    if name and qualities < len(sequence):
        raise _fastq_error(shown, at, f"ends before there is a quality for each of its {len(sequence)} letters")


def _fastq_error(shown: str, line: int, problem: str) -> DataError:
    return DataError(
        f"{shown}, line {line}: the record of fastq {problem}.",
        "Expected records of a name (@), a sequence, + and as many qualities as the sequence has letters.",
        "Correct or remove the record, or set data.document=line to learn all lines as texts.",
    )
