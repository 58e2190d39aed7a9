"""Layouts of tagged words other than two lists in a row: one word a row, and texts with labelled spans."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted, short_list
from transformer_foundry.core.data.columns.cells import is_missing, parse_list, text_of
from transformer_foundry.core.data.columns.roles import named
from transformer_foundry.core.data.columns.span_offsets import OffsetCheck, Span

__all__ = ["TAG_NAMES", "WORD_NAMES", "TagLayout", "find_tag_layout"]

WORD_NAMES = ("tokens", "words", "token", "word", "form", "text", "sentence")
TAG_NAMES = (
    *("ner_tags", "tags", "labels", "ner", "tag", "ner_tag", "pos_tags", "pos", "label", "upos", "chunk_tags", "bio"),
    "entity",
)
_DOCUMENT = re.compile(
    r"(doc|document|file|article|book|chapter|page|paragraph|para|abstract)s?[\s_.-]?(id|no|nr|number|idx|name)?",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"sent(ence)?s?\b|sent(ence)?_?(id|no|nr|number|idx)", re.IGNORECASE)
_START, _END = ("start", "begin", "start_offset"), ("end", "stop", "end_offset")
_OWN_TEXT = ("text", "surface", "surface_form", "mention", "word")
_NAME = ("label", "labels", "type", "tag", "entity", "entity_group", "category", "class")
_WORD = re.compile(r"\w+|[^\w\s]")
_OUTSIDE = "O"

Row = Mapping[str, Any]
Place = Callable[[int], str]


@dataclass(frozen=True)
class TagLayout:
    """How rows become sentences of words with one tag each.

    Attributes:
        text: Column of the words, or of the text.
        tags: Column of the tags, or of the spans.
        sentence: Column of the sentence of a word; None if each row is a text with spans.
        document: Column of the document of a sentence, whose sentences may be counted anew; None without one.
    """

    text: str
    tags: str
    sentence: str | None
    document: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self.document, self.sentence, self.text, self.tags) if name is not None)

    def convert(self, rows: Iterable[Row], place: Place) -> Iterator[tuple[int, Row]]:
        """Yield sentences, each with the number of its first row: lists of words and tags under the names here.

        Args:
            rows: Flattened rows.
            place: Returns file and row of a row number, for messages.

        Raises:
            DataError: If a span is not inside its text.
        """
        if self.sentence is None:
            for number, row in enumerate(rows):
                words, tags = _tag_words(text_of(row.get(self.text)), _spans(row.get(self.tags)) or [], number, place)
                yield number, {self.text: words, self.tags: tags}
            return
        first, found = 0, ([], [])  # type: tuple[int, tuple[list[Any], list[Any]]]
        key: dict[str, Any] = {}
        for number, row in enumerate(rows):
            # An empty cell repeats the one above it.
            begins = {
                name: row[name] for name in (self.document, self.sentence) if name and not is_missing(row.get(name))
            }
            if number and any(key.get(name) != value for name, value in begins.items()):
                yield first, {self.text: found[0], self.tags: found[1]}
                first, found = number, ([], [])
            key |= begins
            found[0].append(text_of(row.get(self.text)))
            found[1].append(row.get(self.tags))
        if found[0]:
            yield first, {self.text: found[0], self.tags: found[1]}

    def check_spans(self, rows: Iterable[Row], place: Place) -> list[str]:
        """Return warnings of spans that do not fit words, or overlap, as a word has one tag only; reads all rows.

        Args:
            rows: Flattened rows.
            place: Returns file and row of a row number.

        Raises:
            DataError: If the offsets of spans are clearly wrong.
        """
        count, first, offsets = 0, None, OffsetCheck()
        for number, row in enumerate(rows if self.sentence is None else ()):
            spans = _spans(row.get(self.tags)) or []
            offsets.add(number, text_of(row.get(self.text)), spans)
            lost = [(one, other) for one, other in itertools.combinations(sorted(set(spans)), 2) if other[0] < one[1]]
            count += len(lost)
            first = first or (lost and (number, *lost[0])) or None
        warnings = offsets.report(place)
        if first is None:
            return warnings
        number, one, other = first
        overlapping = f"{counted(count, 'pair')} of labelled spans overlap{'s' * (count == 1)}"
        return [
            *warnings,
            f"{overlapping} (first in {place(number)}: {one} and {other}):"
            " a word has one tag, that of the longest; of the others what it covers is not learned.",
        ]


def find_tag_layout(
    rows: Sequence[Row], source: str, *, text_column: str | None, label_column: str | None
) -> TagLayout | None:
    """Return the layout of tagged words; None if the words and tags of a sentence are lists, or texts, in one row.

    Args:
        rows: The first rows, flattened.
        source: Name of the table in messages.
        text_column: The column of the words, if the user names it.
        label_column: The column of the tags, if the user names it.

    Raises:
        DataError: If there is one word a row and no column of sentences.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    spans = [name for name in names if label_column in (None, name) and _holds_spans(rows, name)]
    texts = [name for name in names if any(" " in text_of(row.get(name)) and isinstance(row.get(name), str)
                                           for row in rows) and name not in spans]  # fmt: skip
    if spans and (text_column or texts):
        return TagLayout(text_column or named(texts, WORD_NAMES) or texts[0], spans[0], None)
    label = label_column or named([name for name in names if name != text_column], TAG_NAMES)
    words = text_column or named([name for name in names if name != label], WORD_NAMES)
    if words is None or label is None or not all(_is_word(row.get(words), row.get(label)) for row in rows):
        return None
    sentence = next((name for name in names if name not in (words, label) and _SENTENCE.match(name)), None)
    if sentence is None:
        raise DataError(
            f"{source} has one word a row (column {words}), but no column that says which sentence it is in.",
            f"Expected such a column, named sentence; its columns: {short_list(names)}.",
            "Add it, or write one sentence a row: a list of words and a list of tags.",
        )
    others = (name for name in names if name not in (words, label, sentence))
    return TagLayout(words, label, sentence, next(filter(_DOCUMENT.fullmatch, others), None))


def _is_word(word: object, tag: object) -> bool:
    is_one = not isinstance(word, list | tuple) and parse_list(word) is None and not re.search(r"\s", text_of(word))
    return is_one and not isinstance(tag, list | tuple) and not re.search(r"\s", text_of(tag))


def _holds_spans(rows: Sequence[Row], name: str) -> bool:
    found = [_spans(row.get(name)) for row in rows if not is_missing(row.get(name))]
    return any(found) and all(spans is not None for spans in found)


def _spans(value: object) -> list[Span] | None:
    """Return the spans of a cell; None if the cell does not hold spans."""
    items = parse_list(value)
    if items is None:
        return None
    spans = [_span(item) for item in items]
    return None if any(span is None for span in spans) else [span for span in spans if span is not None]


def _span(item: object) -> Span | None:
    own = None
    if isinstance(item, Mapping):
        found = [next((item[key] for key in keys if item.get(key) is not None), None) for keys in (_START, _END, _NAME)]
        own = next((item[key] for key in _OWN_TEXT if isinstance(item.get(key), str)), None)
    else:
        found = list(item) if isinstance(item, list | tuple) and len(item) == 3 else [None] * 3
    start, end, name = found
    name = name[0] if isinstance(name, list | tuple) and name else name
    try:
        return Span(int(str(start)), int(str(end)), str(name) if isinstance(name, str) else _refuse_name(), own or "")
    except ValueError:
        return None


def _refuse_name() -> str:
    raise ValueError("a span without a label")


def _tag_words(text: str, spans: Sequence[Span], number: int, place: Place) -> tuple[list[str], list[str]]:
    """Return the words of a text and their tags: B- where a span begins, I- inside, O outside."""
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise DataError(
                f"{place(number)}: the span {span} is not inside its text ({len(text)} long).",
                "Expected 0 <= start < end <= length, counted in characters.",
                "Correct the row.",
            )
    words, tags, begun = [], [], set[int]()
    for match in _WORD.finditer(text):
        inside = [one for one, span in enumerate(spans) if span.start < match.end() and match.start() < span.end]
        words.append(match.group())
        if not inside:
            tags.append(_OUTSIDE)
            continue
        longest = max(inside, key=lambda one: spans[one].end - spans[one].start)
        tags.append(f"{'I' if longest in begun else 'B'}-{spans[longest].name}")
        begun.add(longest)
    return words, tags
