"""Sections of long texts: documents of a useful size that end at paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["cut_sections", "join_lines", "section_size", "split_paragraphs"]

SECTION_CHARACTERS = 2000
_MIN_SECTIONS = 200  # a short text has shorter sections, so that its splits vary less
_MIN_SECTION_CHARACTERS = 200
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


def join_lines(lines: Iterable[str], size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Join the lines of a text file to sections that end at a blank line, or at any line if a section gets too long.

    A line longer than two sections, as in a book without line breaks, is cut at spaces.
    """
    section: list[str] = []
    length = 0
    for line in lines:
        *pieces, end = _cut_line(line, size)
        for piece in pieces:
            yield "\n".join([*section, piece])
            section, length = [], 0
        if section or end.strip():
            section.append(end)
            length += len(end) + 1
        if (length >= size and not end.strip()) or length >= 2 * size:
            yield "\n".join(section).rstrip()
            section, length = [], 0
    if section:
        yield "\n".join(section).rstrip()


def _cut_line(line: str, size: int) -> Iterator[str]:
    """Yield pieces of at least ``size`` characters, without the space between two of them, then the rest."""
    start = 0
    while len(line) - start > 2 * size and (cut := line.find(" ", start + size)) != -1:
        yield line[start:cut]
        start = cut + 1
    yield line[start:]
