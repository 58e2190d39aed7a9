"""Small inputs for the tests of the data: a source in memory, contracts without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_foundry.core.data import (
    Columns,
    Corpus,
    DataOptions,
    Document,
    Tokenizer,
    fit_tokenizer,
    prepare_splits,
)
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.models import Contract

_PANGRAM = "the quick brown fox jumps over a lazy dog while seven wizards mix boxing liquor in Zürich"
WORDS = tuple(_PANGRAM.split())


class MemorySource:
    """Documents in memory, by split; counts how often they are read."""

    name = "memory"
    notes = ()

    def __init__(self, documents: Mapping[str, Sequence[Document]], label_names: tuple[str, ...] | None = None) -> None:
        self._documents = documents
        self.label_names = label_names
        self.splits = tuple(documents)
        first = next(iter(next(iter(documents.values()))), Document(""))
        names = ("target", "label", "pair")
        self.columns = Columns("text", **{name: name for name in names if getattr(first, name) is not None})
        self.reads = 0

    def documents(self, split: str) -> Iterator[Document]:
        self.reads += 1
        return iter(self._documents[split])

    def location(self, split: str, number: int) -> str:
        return f"memory, {split} {number + 1}"

    def digest(self) -> str:
        return hashlib.sha256(repr(self._documents).encode()).hexdigest()


def sentences(count: int, length: int = 12) -> list[str]:
    """Distinct sentences of ``length`` words, always the same."""
    return [
        f"{number} " + " ".join(WORDS[(number * 7 + place * (1 + number % 5)) % len(WORDS)] for place in range(length))
        for number in range(count)
    ]


def documents_for(task: str, count: int = 120) -> list[Document]:
    texts = sentences(count)
    if task == "seq2seq_lm":
        return [Document(text, target=" ".join(reversed(text.split()[:6]))) for text in texts]
    if task == "sequence_classification":
        return [Document(text, label=("even", "odd")[number % 2]) for number, text in enumerate(texts)]
    return [Document(text) for text in texts]


def corpus_of(documents: Sequence[Document] | Mapping[str, Sequence[Document]], task: str, **settings: Any) -> Corpus:
    given = documents if isinstance(documents, Mapping) else {"train": documents}
    return Corpus(MemorySource(given), task, **{"validation_share": 0.2, "test_share": 0.1, **settings})


def contract_for(task: str, vocab_size: int = 300, **settings: Any) -> Contract:
    kinds = {"causal_lm": "decoder-only", "seq2seq_lm": "encoder-decoder"}
    output = 2 if task == "sequence_classification" else vocab_size
    given = {"ids_argument": "input_ids", "output_size": output, "max_length": 16, **settings}
    return Contract(kind=kinds.get(task, "encoder-only"), task=task, vocab_size=vocab_size, **given)


def prepare(
    task: str, folder: Path, *, count: int = 120, options: DataOptions | None = None, **settings: Any
) -> tuple[TokenSplits, Tokenizer, Corpus]:
    """Prepare a small corpus for a contract with ``settings``."""
    corpus = corpus_of(documents_for(task, count), task)
    contract, options = contract_for(task, **settings), options or DataOptions()
    tokenizer = fit_tokenizer(corpus, contract, options)
    return prepare_splits(corpus, tokenizer, contract, options, folder), tokenizer, corpus
