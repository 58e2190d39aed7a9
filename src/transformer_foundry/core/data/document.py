"""The document, the columns it is read from, and the interface of a source of documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.prompts.template import parse_template

__all__ = ["SPLIT_NAMES", "STREAM_COLUMN", "Columns", "Document", "Source", "clean_text"]

SPLIT_NAMES = ("train", "validation", "test")
STREAM_COLUMN = "id_stream"
"""Name of the column of a stream of token ids, which is cut anywhere; other columns hold a text in each row."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text, with its target or labels.

    A source yields labels as they are in the data (name or number); a corpus yields them as 0, 1, 2, ...

    Attributes:
        text: The text; for token classification its words joined by spaces.
        target: The target text (sequence to sequence).
        label: The class (sequence classification).
        number: The number to predict (regression).
        present: The labels that apply (multi-label classification).
        unknown: The labels of which it is not known whether they apply.
        pair: The second text, if a row has two to classify together.
        words: The words of the text (token classification).
        tags: One class for each word.
        answers: Start and end of the parts of the text that are learned, in characters; None learns all of it.
    """

    text: str
    target: str | None = None
    label: int | str | None = None
    number: float | None = None
    present: tuple[int | str, ...] | None = None
    unknown: tuple[int | str, ...] = ()
    pair: str | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[int | str, ...] | None = None
    answers: tuple[tuple[int, int], ...] | None = None

    def labels(self) -> tuple[int | str, ...]:
        """Return the classes of the document: its label, the labels that apply, or the tags of its words."""
        if self.present is not None:
            return (*self.present, *self.unknown)
        if self.tags is not None:
            return self.tags
        return () if self.label is None else (self.label,)


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a source reads, None where it reads none.

    Attributes:
        text: The text; for token classification the words; for a prompt its first part.
        target: The target text: the answer to a prompt.
        label: The class; for token classification the tags.
        flags: Columns of 0 and 1, one for each label that a text may have.
        targets: What the label is: ``class``, ``number``, or several: ``columns`` of 0 and 1, ``flags`` (a list of 0
            and 1 in a cell) or ``names`` (a list, or names joined by ``separator``).
        separator: What joins several names in a cell.
        flag_count: Length of the lists of 0 and 1.
        reason: A sentence that says how this was decided.
        pair: The second text of a pair to classify.
        is_joined: Whether prompt and answer are joined to one text, for a decoder-only or a masked model.
        template: How the parts of a prompt and its answer are joined; None if the text is one column.
        learned: What counts in the loss: ``all``, only the ``answers`` (``data.loss_on=answer``), or all but the
            messages whose weight is 0 (``weighted``).
        verdict: Column that says whether the answer of a row is right; rows whose answer is not are left out.
        vocab_size: Number of token ids, if the columns hold ids instead of text.
        mask: The attention mask of ids; where it is 0 is padding, which is not read.
        left_out: Columns with content that are not read.
        warnings: What the user should know about columns that are not read.
    """

    text: str
    target: str | None = None
    label: str | None = None
    pair: str | None = None
    flags: tuple[str, ...] = ()
    targets: str = "class"
    separator: str | None = None
    flag_count: int = 0
    reason: str = field(default="", repr=False)  # the representation is digested
    is_joined: bool = False
    template: str | None = None
    learned: str = "all"
    verdict: str | None = None
    vocab_size: int | None = None
    mask: str | None = None
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return the columns that are read, each once."""
        fields = () if self.template is None else parse_template(self.template).names
        chosen = (self.text, self.mask, self.pair, *fields, self.target, self.label, *self.flags, self.verdict)
        return tuple(dict.fromkeys(name for name in chosen if name is not None))

    def __str__(self) -> str:
        """Describe the columns for messages and the profile."""
        text = "text" if self.vocab_size is None else f"token ids below {self.vocab_size}"
        names = {text: self.text, "second text": self.pair, "target": self.target}
        names["number" if self.targets == "number" else "label"] = self.label
        described = ", ".join(f"{role} from {name}" for role, name in names.items() if name is not None)
        if self.template is not None:
            fields = [name for name in parse_template(self.template).names if name != self.target]
            answer = "" if self.target is None or not fields else f", answer from {self.target}"
            described = f"prompt from {', '.join(fields)}{answer}" if fields else f"conversation from {self.target}"
            described += " (joined to one text)" if self.is_joined and len(self.names()) > 1 else ""
        if self.flags:
            described += f", labels from {short_list(self.flags)}"
        left = f"; not read: {short_list(self.left_out)}" if self.left_out else ""
        return described + left


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

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the data, in sentences: what one text is, whether there is a header."""

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
