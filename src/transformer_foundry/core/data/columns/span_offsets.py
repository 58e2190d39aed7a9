"""Whether the offsets of labelled spans fit their texts: by their own text, and by the borders of words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted

__all__ = ["OffsetCheck", "Span"]

_FEWEST = 3  # spans that show how offsets are counted
_CLEARLY, _SELDOM = 0.9, 0.5  # share of the spans at borders of words, counted in another way and as they are
_LONGEST_QUOTE = 60
_CONVERSIONS = {
    "UTF-16 units, as JavaScript does": "Convert them: len(text.encode('utf-16-le')[:2 * start].decode('utf-16-le')).",
    "bytes of UTF-8": "Convert them: len(text.encode()[:start].decode()).",
    "characters from 1": "Subtract 1 from each start and end.",
    "characters from 1 up to the last one": "Subtract 1 from each start.",
    "a carriage return and line feed as one character": "Write the texts with line feeds alone.",
}


class Span(NamedTuple):
    """A labelled piece of a text, with its own text if the data have it."""

    start: int
    end: int
    name: str
    own: str = ""

    def __str__(self) -> str:
        return f"{self.start} to {self.end} ({self.name})"


class _View(NamedTuple):
    text: str
    start: int
    end: int

    @property
    def piece(self) -> str:
        return self.text[self.start : self.end] if 0 <= self.start < self.end <= len(self.text) else ""

    @property
    def begins_a_word(self) -> bool:
        """Whether it begins at the border of a word; blanks around words do not matter."""
        return self.piece.strip() != "" and not _is_inside_word(self.text, self.start)

    @property
    def is_whole(self) -> bool:
        """Whether it begins and ends at borders of words, without blanks."""
        return self.piece.strip() == self.piece and self.begins_a_word and not _is_inside_word(self.text, self.end)


class OffsetCheck:
    """Compares spans with their texts, which are added one by one."""

    def __init__(self) -> None:
        self._spans = self._odd = 0
        self._first_odd: tuple[int, Span, str] | None = None
        self._differ, self._better, self._plain = Counter[str](), Counter[str](), Counter[str]()
        self._first: dict[str, tuple[int, Span, str, str]] = {}
        self._foreign: tuple[int, Span, str, str | None] | None = None

    def add(self, number: int, text: str, spans: Sequence[Span]) -> None:
        """Add the spans of a text.

        Args:
            number: The number of its row.
            text: The text.
            spans: Its spans.
        """
        for span in spans:
            plain = _View(text, span.start, span.end)
            views = dict(_other_views(text, span))
            self._spans += 1
            if not plain.begins_a_word:
                self._odd += 1
                self._first_odd = self._first_odd or (number, span, plain.piece)
            for way, view in views.items():
                self._differ[way] += 1
                self._better[way] += view.is_whole
                self._plain[way] += plain.is_whole
                if view.is_whole and not plain.is_whole:
                    self._first.setdefault(way, (number, span, plain.piece, view.piece))
            own = _letters(span.own)
            # Up to the last character instead of the one after it: the words are the same.
            pieces = (plain.piece, plain._replace(end=span.end + 1).piece)
            if own and self._foreign is None and own not in map(_letters, pieces):
                like = next((way for way, view in views.items() if _letters(view.piece) == own), None)
                self._foreign = number, span, plain.piece, like

    def report(self, place: Callable[[int], str]) -> list[str]:
        """Return a warning if most spans begin within words.

        Args:
            place: Returns file and row of a row number.

        Raises:
            DataError: If the text of a span is not its own one, or the offsets are clearly counted in another way.
        """
        expected = "Expected offsets in characters, from 0, up to the one after the span."
        if self._foreign is not None:
            number, span, piece, way = self._foreign
            counts = f"; the offsets may count {way}" if way else ""
            raise DataError(
                f"{place(number)}: the span {span} is {_quoted(piece)}, but its own text is {_quoted(span.own)}"
                f"{counts}.",
                expected,
                _CONVERSIONS[way] if way else "Correct the offsets, or the text of the span.",
            )
        clear = [way for way in _CONVERSIONS if self._is_clear(way)]
        if clear:
            most = max(self._better[way] for way in clear)
            found, *others = [way for way in clear if self._better[way] == most]
            number, span, piece, right = self._first[found]
            raise DataError(
                f"The offsets of labelled spans count {' or '.join([found, *others])}:"
                f" in {place(number)}, {span} is {_quoted(piece)}, and counted this way {_quoted(right)}."
                f" Counted this way, {most} of {counted(self._differ[found], 'span')} fit words;"
                f" as they are, {self._plain[found]} do.",
                expected,
                " ".join(f"For {way}: {_CONVERSIONS[way]}" for way in (found, *others))
                if others
                else _CONVERSIONS[found],
            )
        if self._first_odd is None or self._odd <= _SELDOM * self._spans:
            return []
        number, span, piece = self._first_odd
        return [
            f"{self._odd} of {counted(self._spans, 'labelled span')} begin within a word (first in"
            f" {place(number)}: {span} is {_quoted(piece)}): words that they touch get their tags. Offsets count"
            " characters from 0; if no blanks separate words, write lists of words and tags."
        ]

    def _is_clear(self, way: str) -> bool:
        count = self._differ[way]
        is_better = self._better[way] >= _CLEARLY * count and self._plain[way] <= _SELDOM * count
        return count >= _FEWEST and is_better


def _other_views(text: str, span: Span) -> Iterator[tuple[str, _View]]:
    """Yield what a span would be if its offsets were counted in another way that makes a difference here."""
    ways = iter(_CONVERSIONS)
    for way, encoding, unit in zip(ways, ("utf-16-le", "utf-8"), (2, 1), strict=False):
        raw = b"" if text.isascii() else text.encode(encoding, "surrogatepass")
        start, end = (len(raw[: unit * at].decode(encoding, "ignore")) for at in (span.start, span.end))
        if raw and (start, end) != (span.start, span.end):
            yield way, _View(text, start, end)
    first, last, breaks = list(_CONVERSIONS)[2:]
    yield first, _View(text, span.start - 1, span.end - 1)
    yield last, _View(text, span.start - 1, span.end)
    if "\r\n" in text[: span.end]:
        yield breaks, _View(text.replace("\r\n", "\n"), span.start, span.end)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}...")


def _is_inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and re.fullmatch(r"\w\w", text[at - 1 : at + 1]) is not None


def _letters(text: str) -> str:
    """Return what is compared of a text: letters and digits, without case and marks."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", text)).casefold()
