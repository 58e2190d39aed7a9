"""The corpus: documents of a source, each assigned to one split, with labels as ids."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import counted, one_line, short_list
from transformer_foundry.core.data.corpus.label_checks import find_look_alikes
from transformer_foundry.core.data.corpus.split_assignment import DROPPED, SplitAssignment, assign_splits
from transformer_foundry.core.data.document import SPLIT_NAMES, Columns, Document, Source, clean_text

__all__ = ["Corpus"]

_CLASSIFICATIONS = ("sequence_classification", "multi_label_classification", "token_classification")
_MISSING = -1
_FORMAT = 5  # increment it whenever the same source gives other splits


class Corpus:
    """Documents per split, read lazily and any number of times.

    A split that the source has is used unchanged. A missing one is taken from the train split by a hash of the text,
    so equal and nearly equal texts are never in two splits.

    Args:
        source: Where the documents come from.
        task: The task of the model.
        validation_share: Share of the texts for validation, if the source has no such split.
        test_share: Share of the texts for the test, if the source has no such split; 0 makes none.
        max_documents: Size of the sample to keep.
        drop_near_duplicates: Keep one of several nearly equal texts.
        num_labels: Number of classes of the model.
        seed: Another seed makes other splits.
    """

    def __init__(
        self,
        source: Source,
        task: str,
        *,
        validation_share: float = 0.05,
        test_share: float = 0.05,
        max_documents: int | None = None,
        drop_near_duplicates: bool = False,
        num_labels: int | None = None,
        seed: int = 0,
    ) -> None:
        self.source = source
        self.task = task
        self._shares = {"validation": validation_share, "test": test_share}
        self._max_documents = max_documents
        self._drop_near_duplicates = drop_near_duplicates
        self._num_labels = num_labels
        self._salt = f"split-{seed}".encode()
        self._assignment: SplitAssignment | None = None
        self._digest: str | None = None
        self._labels: tuple[tuple[str, ...], dict[int | str, int]] | None = None

    def __repr__(self) -> str:
        return f"Corpus({self.source.name[:80]!r}, task={self.task!r})"

    @property
    def name(self) -> str:
        """Name of the source."""
        # It is published with the model, and a URL may contain a password.
        return redact(self.source.name)

    @property
    def columns(self) -> Columns:
        """The columns that are read."""
        return self.source.columns

    @property
    def corrupts_spans(self) -> bool:
        """Whether an encoder-decoder learns to fill in hidden spans, because there are no pairs."""
        return self.task == "seq2seq_lm" and (self.columns.target is None or self.columns.is_joined)

    @property
    def assignment(self) -> SplitAssignment:
        """The split of each document; the first access reads the whole source once.

        Raises:
            DataError: If there is too little text to make the splits.
        """
        if self._assignment is None:
            self._assignment = assign_splits(
                self.source,
                self._shares,
                self._salt,
                max_documents=self._max_documents,
                drop_near_duplicates=self._drop_near_duplicates,
            )
        return self._assignment

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes on one printable line each, by their ids; None where the task has no classes."""
        if self.task not in _CLASSIFICATIONS:
            return None
        return tuple(map(one_line, self._index_classes()[0]))

    def digest(self) -> str:
        """Return the digest of the content and of every setting that affects the splits; the content is read once."""
        if self._digest is None:
            self._digest = self._compute_digest()
        return self._digest

    def describe(self) -> dict[str, Any]:
        """Return source, task and digest for JSON: what ``open_corpus`` needs to open the same corpus again."""
        return {"source": self.name, "task": self.task, "columns": str(self.columns), "digest": self.digest()}

    def _compute_digest(self) -> str:
        parts = (self.source.digest(), self.task, sorted(self._shares.items()), self._max_documents, self._num_labels)
        settings = (_FORMAT, self._drop_near_duplicates, self._salt)
        return hashlib.sha256(repr((*parts, *settings)).encode()).hexdigest()

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of ``split`` ("train", "validation" or "test"), labels as ids."""
        return (document for name, document in self.all_documents() if name == split)

    def all_documents(self) -> Iterator[tuple[str, Document]]:
        """Yield the documents of all splits in one pass over the source, each with the name of its split."""
        label_ids = self._index_classes()[1] if self.task in _CLASSIFICATIONS else {}
        for source_split, assigned in self.assignment.assigned.items():
            for number, document in zip(assigned, self.source.documents(source_split), strict=True):
                if number != DROPPED:
                    yield SPLIT_NAMES[number], _finish(document, label_ids)

    def _index_classes(self) -> tuple[tuple[str, ...], dict[int | str, int]]:
        if self._labels is None:
            found = self.assignment.label_values
            names = _class_names(found, self.source.label_names)
            ids = _number(names, found, is_declared=self.source.label_names is not None)
            allowed = len(names) if self._num_labels is None else self._num_labels
            wrong = [label for label in found if not 0 <= ids.get(label, -1) < allowed]
            if wrong or len(names) > allowed:
                raise self._too_many_classes_error(names, wrong, allowed)
            self._labels = names, ids
        return self._labels

    def _too_many_classes_error(self, names: tuple[str, ...], wrong: list[int | str], allowed: int) -> DataError:
        """Return the error that names the first row of a class that the model or the declared classes do not have.

        Of more classes than outputs any could be the wrong ones: numbers without an output, else those of which train
        has the fewest texts.
        """
        if self.task == "multi_label_classification":
            return self._too_many_labels_error(names)
        counts, first = self._count_labels()
        outside: list[int | str] = [label for label in counts if isinstance(label, int) and not 0 <= label < allowed]
        are_numbers = all(isinstance(label, int) for label in counts)
        if wrong and len(names) > allowed and are_numbers:
            wrong = outside or wrong
        elif wrong and len(names) > allowed:
            ranked = sorted(counts, key=lambda label: (counts[label]["train"], counts[label].total(), str(label)))
            wrong = ranked[: len(names) - allowed]
        if wrong:
            label = min(wrong, key=lambda label: (counts[label].total(), str(label)))
            return self._label_error(self.source.location(*first[label]), label, names, counts[label])
        return DataError(
            f"{self.name} has {len(names)} classes ({short_list(names, 4)}) but the model has only {self._num_labels}.",
            f"Expected at most {self._num_labels} classes, numbered from 0.",
            find_look_alikes(names)
            or f"Export the model with {len(names)} outputs, or choose another column with data.label_column.",
        )

    def _count_labels(self) -> tuple[dict[int | str, Counter[str]], dict[int | str, tuple[str, int]]]:
        """Return how many labels of each kind each split has, and the split and number of the first document of it."""
        counts, first = defaultdict[int | str, Counter[str]](Counter), dict[int | str, tuple[str, int]]()
        for split in self.source.splits:
            for number, document in enumerate(self.source.documents(split)):
                for label in document.labels():
                    counts[label][split] += 1
                    first.setdefault(label, (split, number))
        return counts, first

    def _too_many_labels_error(self, names: tuple[str, ...]) -> DataError:
        shown = f"The texts of {self.name} have {len(names)} labels ({short_list(names, 4)})"
        outputs = "one output" if self._num_labels == 1 else f"{self._num_labels} outputs"
        return DataError(
            f"{shown}; the model has {outputs}.",
            "Expected an output for each label.",
            f"Export the model with {len(names)} outputs, or name fewer columns of 0 and 1 in data.label_columns.",
        )

    def _label_error(self, place: str, label: int | str, names: tuple[str, ...], counts: Counter[str]) -> DataError:
        allowed, remedy = self._num_labels or len(names), "Correct the row, or set data.label_column."
        problem = f"it is none of the {len(names)} classes {', '.join(names[:4])}{', ...' if names[4:] else ''}."
        if len(names) > allowed:
            problem = f"the data have {len(names)} classes ({short_list(names, 4)}) but the model has only {allowed}."
            remedy = find_look_alikes(names) or (
                f"Correct the row, export the model with {len(names)} outputs, or set data.label_column."
            )
        if label == _MISSING:
            remedy = f"Remove the rows of {_MISSING}, which mostly marks a missing label, or set data.label_column."
        what = "tag" if self.task == "token_classification" else "row"
        found = ", ".join(f"{counted(count, what)} of {split}" for split, count in counts.items())
        return DataError(
            f"{place}: the label (column {self.columns.label}; {found}) is {label}; {problem}",
            f"Expected 0 to {allowed - 1}, or names of at most {allowed} classes.",
            remedy,
        )


def _finish(document: Document, label_ids: dict[int | str, int]) -> Document:
    return dataclasses.replace(
        document,
        text=clean_text(document.text),
        target=None if document.target is None else clean_text(document.target),
        pair=None if document.pair is None else clean_text(document.pair),
        words=None if document.words is None else tuple(clean_text(word) for word in document.words),
        label=None if document.label is None or not label_ids else label_ids[document.label],
        present=None if document.present is None else tuple(label_ids[label] for label in document.present),
        unknown=tuple(label_ids[label] for label in document.unknown),
        tags=None if document.tags is None else tuple(label_ids[tag] for tag in document.tags),
    )


def _class_names(found: frozenset[int | str], declared: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of the classes: the declared ones, else those that occur, numbers by value.

    0 and 4 are two classes. 1 and "1", which a csv may contain, are one.
    """
    if declared is not None:
        return declared
    if all(isinstance(label, int) for label in found):
        return tuple(str(label) for label in sorted(found, key=int))
    return tuple(sorted({str(label) for label in found}))


def _number(names: tuple[str, ...], found: frozenset[int | str], *, is_declared: bool) -> dict[int | str, int]:
    ids: dict[int | str, int] = {name: number for number, name in enumerate(names)}
    if is_declared:
        ids.update({number: number for number in range(len(names))})
    else:
        ids.update({label: ids[str(label)] for label in found})
    return ids
