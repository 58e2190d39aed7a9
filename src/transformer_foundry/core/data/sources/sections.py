"""Long texts cut into sections: documents of a useful size whose borders are paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["cut_sections", "join_lines", "section_size", "split_paragraphs"]

SECTION_CHARACTERS = 2000
_FEWEST_SECTIONS = 200  # a short text is cut finer, so that its splits are not a matter of luck
_SHORTEST_SECTION = 200  # characters
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)*")


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of ``text``, indentation kept, blank lines dropped."""
    return [part for part in _BLANK_LINES.split(text.strip("\n")) if part.strip()]


def cut_sections(paragraphs: Iterable[str], size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Join consecutive paragraphs until a section has at least ``size`` characters.

    Nothing but the blank lines between sections is lost. A section is what a split is made of: a book cut at random
    paragraphs would lose its context, one kept whole could not be split.
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
    """Return how long the sections of a text of so many characters should be."""
    return max(_SHORTEST_SECTION, min(SECTION_CHARACTERS, characters // _FEWEST_SECTIONS))


def join_lines(lines: Iterable[str], size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Join the lines of a text file to sections that end at a blank line, or at any line when none comes for long.

    A line longer than two sections, such as a book without line breaks, is cut at blanks.
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
    """Yield pieces of at least ``size`` characters between which one blank is lost, and what is left."""
    start = 0
    while len(line) - start > 2 * size and (cut := line.find(" ", start + size)) != -1:
        yield line[start:cut]
        start = cut + 1
    yield line[start:]
