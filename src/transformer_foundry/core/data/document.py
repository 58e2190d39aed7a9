"""The document, the columns it is read from, and the interface of a source of documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["SPLIT_NAMES", "Columns", "Document", "Source", "clean_text"]

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Document:
    """One text, with its target or labels.

    A source yields labels as they are in the data (name or number); a corpus yields them as 0, 1, 2, ...

    Attributes:
        text: The text; for token classification its words joined by spaces.
        target: The target text (sequence to sequence).
        label: The class (sequence classification).
        pair: The second text, if a row has two to classify together.
        words: The words of the text (token classification).
        tags: One class for each word.
    """

    text: str
    target: str | None = None
    label: int | str | None = None
    pair: str | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[int | str, ...] | None = None

    def labels(self) -> tuple[int | str, ...]:
        """Return the classes of the document: its label, or the tags of its words."""
        if self.tags is not None:
            return self.tags
        return () if self.label is None else (self.label,)


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a source reads, None where it reads none.

    Attributes:
        text: The text; for token classification the words.
        target: The target text, or the continuation of the text if ``is_joined``.
        label: The class; for token classification the tags.
        pair: The second text of a pair to classify.
        is_joined: Whether text and target are joined to one text, for a decoder-only model.
    """

    text: str
    target: str | None = None
    label: str | None = None
    pair: str | None = None
    is_joined: bool = False

    def __str__(self) -> str:
        """Describe the columns for messages and the profile."""
        names = {"text": self.text, "second text": self.pair, "target": self.target, "label": self.label}
        parts = ", ".join(f"{role} from {name}" for role, name in names.items() if name is not None)
        return f"{parts} (joined to one text)" if self.is_joined else parts


class Source(Protocol):
    """A source of documents; can be read any number of times, always in the same order."""

    @property
    def name(self) -> str:
        """The name of the source in messages and in the profile."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source itself has: train, and possibly validation and test."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes if the source declares them."""

    @property
    def columns(self) -> Columns:
        """The columns that are read."""

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of one of ``splits``."""

    def location(self, split: str, number: int) -> str:
        """Return the file and row of a document, given its number counted from 0."""

    def digest(self) -> str:
        """Return a digest that changes whenever the content does; cheaper than reading the documents."""


def clean_text(text: str) -> str:
    """Replace what UTF-8 cannot encode (lone surrogates, as in JSON escapes) by a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
