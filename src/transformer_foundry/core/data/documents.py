"""A corpus: documents from a source, each assigned to one split by a hash of its text."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from transformer_foundry.core.errors import DataError

__all__ = ["SPLIT_NAMES", "Corpus", "Document", "Source", "SplitPlan"]

SPLIT_NAMES = ("train", "validation", "test")
_DROPPED = 255
_HASH_RANGE = float(2**64)


@dataclass(frozen=True, slots=True)
class Document:
    """One text, with its target text or its label where the task has one.

    A source gives labels as it finds them (name or number); a corpus gives them as 0, 1, 2, ...
    """

    text: str
    target: str | None = None
    label: int | str | None = None


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

    def documents(self, split: str) -> Iterator[Document]:
        """Read one of ``splits``."""

    def stamp(self) -> str:
        """Digest that changes whenever the content does; cheaper than reading the documents."""


@dataclass
class SplitPlan:
    """Which document goes where, found in one pass over the source.

    Attributes:
        assigned: Source split -> (documents,) uint8, index into ``SPLIT_NAMES`` or 255 for a dropped document.
        counts: Documents of each split.
        text_bytes: UTF-8 bytes of the texts of each split.
        labels: How often each label occurs in each split.
        repeats: Documents whose text had been seen before in the same split; they are kept.
        leaks: Documents dropped because their text is also in a split held out by the source.
        empty: Documents dropped because they hold no text.
    """

    assigned: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    text_bytes: dict[str, int] = field(default_factory=dict)
    labels: dict[str, Counter[int | str]] = field(default_factory=dict)
    repeats: int = 0
    leaks: int = 0
    empty: int = 0


class Corpus:
    """Documents per split, read lazily and as often as wanted.

    A split that the source has is used as it is. A missing one is made from the source's train split: a text belongs
    to the split that its hash says, so equal texts never land in two splits.

    Args:
        source: Where the documents come from.
        task: What they are for.
        validation_share: Share of the texts for a validation split that the source lacks.
        test_share: Share of the texts for a test split that the source lacks; 0 makes none.
        max_documents: Keep a sample of this many documents.
        num_labels: Number of classes that the model can tell apart.
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
        num_labels: int | None = None,
        seed: int = 0,
    ) -> None:
        self.source = source
        self.task = task
        self._shares = {"validation": validation_share, "test": test_share}
        self._max_documents = max_documents
        self._num_labels = num_labels
        self._salt = f"split-{seed}".encode()
        self._plan: SplitPlan | None = None
        self._labels: tuple[tuple[str, ...], dict[int | str, int]] | None = None

    @property
    def name(self) -> str:
        """Name of the source."""
        return self.source.name

    @property
    def plan(self) -> SplitPlan:
        """Which document goes where; the first use reads the whole source once.

        Raises:
            DataError: If there is too little text to make the splits.
        """
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of their ids; None where the task has no classes."""
        if self.task != "sequence_classification":
            return None
        return self._number_labels()[0]

    def stamp(self) -> str:
        """Digest of the content and of all that decides the splits."""
        parts = (self.source.stamp(), self.task, sorted(self._shares.items()), self._max_documents, self._num_labels)
        return hashlib.sha256(repr((*parts, self._salt)).encode()).hexdigest()

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of ``split`` ("train", "validation" or "test"), labels as ids."""
        wanted = SPLIT_NAMES.index(split)
        label_ids = self._number_labels()[1] if self.task == "sequence_classification" else None
        for source_split, assigned in self.plan.assigned.items():
            if not (assigned == wanted).any():
                continue
            for target, document in zip(assigned, self.source.documents(source_split), strict=True):
                if target == wanted:
                    label = None if label_ids is None or document.label is None else label_ids[document.label]
                    yield Document(clean_text(document.text), _clean(document.target), label)

    def _number_labels(self) -> tuple[tuple[str, ...], dict[int | str, int]]:
        if self._labels is None:
            found = {label for counts in self.plan.labels.values() for label in counts}
            self._labels = _number_labels(found, self.source.label_names, self._num_labels, self.name)
        return self._labels

    def _make_plan(self) -> SplitPlan:
        keys, sizes, labels = {}, {}, {}
        plan = SplitPlan()
        for split in self.source.splits:
            keys[split], sizes[split], labels[split] = self._scan(split)
            plan.empty += int((sizes[split] == 0).sum())
            plan.assigned[split] = np.full(len(keys[split]), SPLIT_NAMES.index(split), np.uint8)
            plan.assigned[split][sizes[split] == 0] = _DROPPED
        if self._max_documents is not None:
            _sample(plan.assigned, keys, self._max_documents)
        self._cut_missing_splits(plan.assigned, keys)
        plan.leaks = _drop_leaks(plan.assigned, keys)
        for number, name in enumerate(SPLIT_NAMES):
            chosen = {split: assigned == number for split, assigned in plan.assigned.items()}
            plan.counts[name] = int(sum(mask.sum() for mask in chosen.values()))
            plan.text_bytes[name] = int(sum(sizes[split][mask].sum() for split, mask in chosen.items()))
            plan.labels[name] = Counter(
                labels[split][row] for split, mask in chosen.items() if labels[split] for row in np.flatnonzero(mask)
            )
            texts = np.concatenate([keys[split][mask] for split, mask in chosen.items()])
            plan.repeats += len(texts) - len(np.unique(texts))
        self._check(plan)
        return plan

    def _scan(self, split: str) -> tuple[np.ndarray, np.ndarray, list[int | str]]:
        """Return hash, size in bytes and label of every document of a source split."""
        keys, sizes, labels = bytearray(), [], []
        for document in self.source.documents(split):
            text = clean_text(document.text).encode()
            keys += hashlib.blake2b(text, digest_size=8, key=self._salt).digest()
            unusable = not text.strip() or (document.target is not None and not document.target.strip())
            sizes.append(0 if unusable else len(text))
            if document.label is not None:
                labels.append(document.label)
        return np.frombuffer(bytes(keys), "<u8"), np.array(sizes, np.int64), labels

    def _cut_missing_splits(self, assigned: dict[str, np.ndarray], keys: dict[str, np.ndarray]) -> None:
        """Give the texts with the smallest hashes to the missing splits; each gets at least one text."""
        here, low = assigned["train"], 0.0
        shares = {name: share for name, share in self._shares.items() if name not in assigned and share > 0}
        for name, share in shares.items():
            position = keys["train"] / _HASH_RANGE
            left = position[(here == 0) & (position >= low)]
            if not len(left):
                return
            high = max(low + share, math.nextafter(float(left.min()), 2.0))
            here[(here == 0) & (position >= low) & (position < high)] = SPLIT_NAMES.index(name)
            low = high

    def _check(self, plan: SplitPlan) -> None:
        total = sum(plan.counts.values())
        if total == 0:
            raise DataError(
                f"{self.name} holds no text ({plan.empty} empty rows).",
                "Expected at least two different texts.",
                "Check data.source and data.text_column.",
            )
        for name in ("train", "validation"):
            if plan.counts[name] == 0:
                raise DataError(
                    f"No text is left for the {name} split: {self.name} holds {total} texts, too few different ones.",
                    "Expected at least two different texts, better some hundred.",
                    "Give more data in data.source, or lower data.validation_share and data.test_share.",
                )


def clean_text(text: str) -> str:
    """Replace what UTF-8 cannot carry (lone surrogates, as JSON escapes may hold) by a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def _sample(assigned: dict[str, np.ndarray], keys: dict[str, np.ndarray], size: int) -> None:
    """Keep ``size`` documents: those whose hash, scrambled so that it says nothing about the split, is smallest."""
    everything = np.concatenate(list(assigned.values()))
    scrambled = np.concatenate(list(keys.values())) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(0xD1B54A32D192ED03)
    scrambled = (scrambled ^ (scrambled >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    usable = np.flatnonzero(everything != _DROPPED)
    dropped = usable[np.argsort(scrambled[usable], kind="stable")[size:]]
    everything[dropped] = _DROPPED
    start = 0
    for split, values in assigned.items():
        assigned[split] = everything[start : start + len(values)].copy()
        start += len(values)


def _drop_leaks(assigned: dict[str, np.ndarray], keys: dict[str, np.ndarray]) -> int:
    """Drop from train what is also in validation or test, and from validation what is also in test."""
    leaks = 0
    for number in (1, 0):
        held_out = [keys[split][(values > number) & (values != _DROPPED)] for split, values in assigned.items()]
        for split, values in assigned.items():
            leaked = (values == number) & np.isin(keys[split], np.concatenate(held_out))
            leaks += int(leaked.sum())
            values[leaked] = _DROPPED
    return leaks


def _number_labels(
    found: set[int | str], declared: tuple[str, ...] | None, num_labels: int | None, source: str
) -> tuple[tuple[str, ...], dict[int | str, int]]:
    """Return the names of the classes and the id of each label found.

    Declared names keep their places and whole numbers from 0 their values; other labels are sorted by name, so that a
    1 and a "1", as a csv read in chunks may hold, are one class.
    """
    if declared is None and found and all(isinstance(label, int) and label >= 0 for label in found):
        names = tuple(str(number) for number in range(max(int(label) for label in found) + 1))
    else:
        names = declared if declared is not None else tuple(sorted({str(label) for label in found}))
    if num_labels is not None and len(names) > num_labels:
        raise DataError(
            f"{source} has {len(names)} classes but the model tells only {num_labels} apart.",
            f"Expected at most {num_labels} classes, numbered from 0.",
            f"Export the model with {len(names)} outputs, or choose another column with data.label_column.",
        )
    ids: dict[int | str, int] = {name: number for number, name in enumerate(names)}
    if declared is not None:
        ids.update({number: number for number in range(len(names))})
    else:
        ids.update({label: ids[str(label)] for label in found})
    unknown = sorted(str(label) for label in found if label not in ids)
    if unknown:
        raise DataError(
            f"{source} has the label {unknown[0]}, which is none of its {len(names)} classes.",
            f"Expected 0 to {len(names) - 1}.",
            "Correct the data, or choose another column with data.label_column.",
        )
    return names, ids
