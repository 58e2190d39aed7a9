"""Documents, and what a source of documents is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["SPLIT_NAMES", "Columns", "Document", "Source", "clean_text"]

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Document:
    """One text, with what its task adds to it.

    A source gives labels as it finds them (name or number); a corpus gives them as 0, 1, 2, ...

    Attributes:
        text: The text; for token classification its words joined by blanks.
        target: The target text (sequence to sequence).
        label: The class (sequence classification).
        pair: The second text where a row has two to be classified together.
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
        """The classes of the document: its label, or the tags of its words."""
        if self.tags is not None:
            return self.tags
        return () if self.label is None else (self.label,)


@dataclass(frozen=True)
class Columns:
    """What a source reads: names of its columns, None where it reads none.

    Attributes:
        text: The text; for token classification the words.
        target: The target text, or what continues the text where ``is_joined``.
        label: The class; for token classification the tags.
        pair: The second text of a pair to classify.
        is_joined: Whether text and target make one text, as a decoder-only model wants it.
    """

    text: str
    target: str | None = None
    label: str | None = None
    pair: str | None = None
    is_joined: bool = False

    def __str__(self) -> str:
        """Say it in words, for messages and the profile."""
        names = {"text": self.text, "second text": self.pair, "target": self.target, "label": self.label}
        told = ", ".join(f"{role} from {name}" for role, name in names.items() if name is not None)
        return f"{told} (joined to one text)" if self.is_joined else told


class Source(Protocol):
    """Where documents come from; can be read any number of times, always in the same order."""

    @property
    def name(self) -> str:
        """What to call it in messages and in the profile."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source itself has, some of train, validation, test; train is always there."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes where the source declares them."""

    @property
    def columns(self) -> Columns:
        """What is read."""

    def documents(self, split: str) -> Iterator[Document]:
        """Read one of ``splits``."""

    def location(self, split: str, number: int) -> str:
        """Say where the document of this number, counted from 0, is found: file and row."""

    def digest(self) -> str:
        """Digest that changes whenever the content does; cheaper than reading the documents."""


def clean_text(text: str) -> str:
    """Replace what UTF-8 cannot carry (lone surrogates, as JSON escapes may hold) by a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
