"""Assignment of documents to splits, in one pass over the source."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.columns.token_ids import ids_as_characters
from transformer_foundry.core.data.corpus.label_checks import LabelLeak
from transformer_foundry.core.data.corpus.near_duplicates import NearDuplicates
from transformer_foundry.core.data.corpus.text_quality import TextQuality
from transformer_foundry.core.data.document import SPLIT_NAMES, Document, Source, clean_text

__all__ = ["DROPPED", "SplitAssignment", "assign_splits"]

DROPPED = 255
_HASH_RANGE = float(2**64)
_NO_LABEL = 2**32 - 1
_LARGE_GROUP = 0.2  # share of the texts
_SMALL_GROUP = 4  # texts


@dataclass
class SplitAssignment:
    """The split of each document, with counts.

    Attributes:
        assigned: Source split -> (documents,) uint8, index into ``SPLIT_NAMES`` or 255 for a dropped document.
        counts: Documents of each split.
        text_bytes: UTF-8 bytes of the texts of each split.
        labels: How often each label occurs in each split (sequence classification).
        label_values: All labels and tags found.
        repeats: Documents whose text had been seen before in the same split.
        near_duplicates: Documents nearly equal to an earlier one of any split; equal ones do not count, nor do prompts
            and pairs that share a long part and differ in the others.
        near_leaks: Of these, documents nearly equal to one of a held-out split.
        leaks: Training documents dropped because their text is also in a held-out split of the source.
        shared: Validation documents whose text is also in test; both splits are of the source, and are used as given.
        empty: Documents dropped because they have no text, or no target.
        without_target: Of these, documents that have a text.
        dropped_duplicates: Documents dropped by ``drop_near_duplicates``.
        contradictions: Documents whose text occurs with another class, or other labels, too.
        text_quality: The report of ``TextQuality``.
        label_leak: A warning if the texts contain the names of their classes.
    """

    assigned: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    text_bytes: dict[str, int] = field(default_factory=dict)
    labels: dict[str, Counter[int | str]] = field(default_factory=dict)
    label_values: frozenset[int | str] = frozenset()
    repeats: int = 0
    near_duplicates: int = 0
    near_leaks: int = 0
    leaks: int = 0
    shared: int = 0
    empty: int = 0
    without_target: int = 0
    dropped_duplicates: int = 0
    contradictions: int = 0
    text_quality: dict[str, object] = field(default_factory=dict)
    label_leak: str | None = None


@dataclass
class _Scan:
    """Results of the pass over all documents, in the order of the splits of the source.

    Attributes:
        keys: Hash of each text, (documents,) uint64.
        loose_keys: Hash of each text without case and repeated spaces, (documents,) uint64.
        sizes: UTF-8 bytes of each text, 0 if it cannot be used, (documents,) int64.
        labels: Index of each label in ``names``, (documents,) uint32.
        answers: Index of the class, or of the labels, of each document among all that differ, (documents,) uint32.
        names: The labels.
        parts: Hash of what a prompt or a pair has beside its longest line, such as the question on a paragraph, in the
            same form; 0 for other texts, (documents,) uint64.
        groups: Number of the first document of the group of near-duplicates, (documents,) int64.
        bounds: Source split -> its documents.
        without_target: Documents with a text and no target.
        text_quality: The report of ``TextQuality``.
        label_leak: The warning of ``LabelLeak``.
    """

    keys: np.ndarray
    loose_keys: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    answers: np.ndarray
    names: list[int | str]
    parts: np.ndarray
    groups: np.ndarray
    bounds: dict[str, slice]
    without_target: int
    text_quality: dict[str, object]
    label_leak: str | None


def assign_splits(
    source: Source, shares: dict[str, float], salt: bytes, *, max_documents: int | None, drop_near_duplicates: bool
) -> SplitAssignment:
    """Read ``source`` once and assign its documents.

    Texts of train that are also in a held-out split of the source are dropped. A missing split is then taken from
    train. The hash of the first text of a group of equal or nearly equal texts
    decides for the whole group, so it is never in two splits. If a group is a large part of the data, its texts are
    assigned one by one; texts that differ only in case and spaces still have one hash.

    Args:
        source: The documents.
        shares: Share of the texts for each held-out split, used if the source has no such split.
        salt: Key of the hash; another one makes other splits.
        max_documents: Size of the sample to keep; None keeps all.
        drop_near_duplicates: Keep only the first of each group, and none of train that is also in a held-out split.

    Raises:
        DataError: If there is too little text to make the splits.
    """
    scan = _scan(source, salt)
    given = np.full(len(scan.keys), DROPPED, np.uint8)
    for split, rows in scan.bounds.items():
        given[rows] = SPLIT_NAMES.index(split)
    given[scan.sizes == 0] = DROPPED
    assignment = SplitAssignment(
        empty=int((scan.sizes == 0).sum()),
        without_target=scan.without_target,
        text_quality=scan.text_quality,
        label_values=frozenset(scan.names),
        label_leak=scan.label_leak,
    )
    if max_documents is not None:
        _sample(given, scan.keys, max_documents)
    group_keys = scan.keys[scan.groups]
    # Questions on one paragraph belong to one split, but are no duplicates.
    near_keys = group_keys ^ (scan.parts * np.uint64(0x9E3779B97F4A7C15))
    assignment.leaks = _drop_leaks(given, scan.keys)
    assignment.shared = int(_is_held_out_too(given, scan.keys, 1).sum())
    usable = int((given != DROPPED).sum())
    if drop_near_duplicates:
        _drop_leaks(given, near_keys)  # before the cut: what a missing split gets has no near-duplicate in a given one
    positions = _positions(scan.loose_keys, group_keys, given == 0)
    _cut_missing_splits(given, positions, {name: share for name, share in shares.items() if name not in scan.bounds})
    _count_near_duplicates(assignment, given, scan, near_keys)
    if drop_near_duplicates:
        _drop_leaks(given, near_keys)
        given[_is_held_out_too(given, near_keys, 1)] = DROPPED
        _drop_repeats(given, near_keys)
        assignment.dropped_duplicates = usable - int((given != DROPPED).sum())
    _count(assignment, given, scan)
    assignment.contradictions = _count_contradictions(given, scan)
    _check(assignment, source)
    return assignment


def _scan(source: Source, salt: bytes) -> _Scan:
    keys, loose_keys, parts, bounds = bytearray(), bytearray(), bytearray(), {}
    sizes, labels = array("I"), array("I")
    numbers: dict[int | str, int] = {}
    answers, kinds = array("I"), dict[object, int]()
    duplicates, quality, leak = NearDuplicates(), TextQuality(), LabelLeak(source.label_names or ())
    without_target = 0
    has_parts = source.columns.template is not None or source.columns.pair is not None
    holds_ids = source.columns.vocab_size is not None
    for split in source.splits:
        start = len(sizes)
        for document in source.documents(split):
            text = ids_as_characters(document.text) if holds_ids else _whole_text(document)
            encoded = text.encode()
            keys += _hash(encoded, salt)
            loose_keys += _loose_hash(text, salt)
            parts += _loose_hash(_without_longest_line(text), salt) if has_parts else bytes(8)
            unusable = not encoded.strip()
            if document.target is not None and not document.target.strip() and not unusable:
                unusable, without_target = True, without_target + 1
            sizes.append(0 if unusable else len(encoded))
            found = [numbers.setdefault(label, len(numbers)) for label in document.labels()]
            answer = document.label if document.present is None else (document.present, document.unknown)
            answers.append(kinds.setdefault(answer, len(kinds)))
            labels.append(found[0] if document.label is not None else _NO_LABEL)
            if document.label is not None:
                leak.add("" if holds_ids else text, document.label)
            duplicates.add("" if unusable else text)
            quality.add("" if holds_ids else text)
        bounds[split] = slice(start, len(sizes))
    return _Scan(
        keys=np.frombuffer(keys, "<u8"),
        loose_keys=np.frombuffer(loose_keys, "<u8"),
        sizes=np.array(sizes, np.int64),
        labels=np.array(labels, np.uint32),
        answers=np.array(answers, np.uint32),
        parts=np.frombuffer(parts, "<u8"),
        names=list(numbers),
        groups=duplicates.groups(),
        bounds=bounds,
        without_target=without_target,
        text_quality=quality.report(),
        label_leak=leak.warning(),
    )


def _hash(text: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8, key=salt).digest()


def _loose_hash(text: str, salt: bytes) -> bytes:
    return _hash(" ".join(text.lower().split()).encode("utf-8", "replace"), salt)


def _without_longest_line(text: str) -> str:
    lines = text.splitlines()
    longest = max(range(len(lines)), key=lambda place: len(lines[place]), default=0)
    return "\n".join(lines[:longest] + lines[longest + 1 :])


def _whole_text(document: Document) -> str:
    text = document.text if document.pair is None else f"{document.text}\n{document.pair}"
    return clean_text(text)


def _sample(given: np.ndarray, keys: np.ndarray, size: int) -> None:
    """Keep the ``size`` documents with the smallest hashes, scrambled to be independent of the split."""
    scrambled = keys * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(0xD1B54A32D192ED03)
    scrambled = (scrambled ^ (scrambled >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    usable = np.flatnonzero(given != DROPPED)
    given[usable[np.argsort(scrambled[usable], kind="stable")[size:]]] = DROPPED


def _positions(loose_keys: np.ndarray, group_keys: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """Return the position of each text in [0, 1], (documents,) float64, the same for all texts of a group.

    Texts made from one template are a chain of near-duplicates. As a group they would all be held out, or none, so
    each has a position of the text itself; a single text that is repeated as often is last, in train.
    """
    positions, rows = group_keys / _HASH_RANGE, np.flatnonzero(is_train)
    large = max(_SMALL_GROUP, _LARGE_GROUP * len(rows))
    for hashes, instead in ((group_keys, loose_keys / _HASH_RANGE), (loose_keys, np.ones(len(loose_keys)))):
        _, numbers, counts = np.unique(hashes[rows], return_inverse=True, return_counts=True)
        moved = rows[counts[numbers] > large]
        positions[moved] = instead[moved]
    return positions


def _cut_missing_splits(given: np.ndarray, positions: np.ndarray, shares: dict[str, float]) -> None:
    """Assign the first texts to the missing splits: to each at least one, but never the last text."""
    low = 0.0
    for name, share in shares.items():
        left = (given == 0) & (positions >= low)
        found = positions[left]
        if share <= 0 or (found == found[:1]).all():
            continue
        high = min(max(low + share, math.nextafter(float(found.min()), 2.0)), float(found.max()))
        given[left & (positions < high)] = SPLIT_NAMES.index(name)
        low = high


def _drop_leaks(given: np.ndarray, keys: np.ndarray) -> int:
    """Drop texts of train that are also in validation or test, and return how many."""
    leaked = _is_held_out_too(given, keys, 0)
    given[leaked] = DROPPED
    return int(leaked.sum())


def _is_held_out_too(given: np.ndarray, keys: np.ndarray, number: int) -> np.ndarray:
    """Return where a text of one split is also in one that is held out from it, (documents,) bool."""
    repeated: np.ndarray = (given == number) & np.isin(keys, keys[(given > number) & (given != DROPPED)])
    return repeated


def _drop_repeats(given: np.ndarray, keys: np.ndarray) -> None:
    kept = np.flatnonzero(given != DROPPED)
    _, firsts = np.unique(keys[kept], return_index=True)
    given[np.delete(kept, firsts)] = DROPPED


def _count_near_duplicates(assignment: SplitAssignment, given: np.ndarray, scan: _Scan, near_keys: np.ndarray) -> None:
    kept = np.flatnonzero(given != DROPPED)
    distinct = len(np.unique(scan.keys[kept]))
    assignment.near_duplicates = distinct - len(np.unique(near_keys[kept]))
    for number in (1, 0):
        near, equal = (_is_held_out_too(given, keys, number) for keys in (near_keys, scan.keys))
        assignment.near_leaks += int((near & ~equal).sum())


def _count(assignment: SplitAssignment, given: np.ndarray, scan: _Scan) -> None:
    assignment.assigned = {split: given[rows] for split, rows in scan.bounds.items()}
    for number, name in enumerate(SPLIT_NAMES):
        chosen = given == number
        assignment.counts[name] = int(chosen.sum())
        assignment.text_bytes[name] = int(scan.sizes[chosen].sum())
        labels = scan.labels[chosen]
        found, counts = np.unique(labels[labels != _NO_LABEL], return_counts=True)
        assignment.labels[name] = Counter(
            {scan.names[label]: int(count) for label, count in zip(found, counts, strict=True)}
        )
        assignment.repeats += assignment.counts[name] - len(np.unique(scan.keys[chosen]))


def _count_contradictions(given: np.ndarray, scan: _Scan) -> int:
    """Return the number of kept documents whose text also has another answer."""
    kept = given != DROPPED
    keys, answers = scan.keys[kept], scan.answers[kept]
    found = np.unique(np.stack((keys, answers.astype(np.uint64))), axis=1)[0] if len(keys) else keys
    distinct, counts = np.unique(found, return_counts=True)
    return int(np.isin(keys, distinct[counts > 1]).sum())


def _check(assignment: SplitAssignment, source: Source) -> None:
    total = sum(assignment.counts.values())
    if total == 0 and assignment.without_target:
        raise DataError(
            f"{source.name} has no row with a text and a target: in {assignment.without_target} rows the target"
            f" (column {source.columns.target}) is empty.",
            "Expected at least two rows with both.",
            "Set data.target_column to the column of the target.",
        )
    if total == 0:
        raise DataError(
            f"{source.name} contains no text ({assignment.empty} empty rows).",
            "Expected at least two different texts.",
            "Check data.source and data.text_column.",
        )
    for name in ("train", "validation"):
        if assignment.counts[name]:
            continue
        why = f"{source.name} contains {counted(total, 'text')}, and too few of them are different"
        remedy = "Give more data in data.source."
        if assignment.leaks:
            rest = "" if name == "train" else ", and too few of the others are different"
            why = f"{assignment.leaks} of {'its' if name == 'train' else 'the training'} texts are also in a held-out"
            why += f" split of {source.name}{rest}"
            remedy = "Give other texts to train on, or remove the held-out split: it is then cut from train."
        raise DataError(
            f"No text is left for the {name} split: {why}.",
            "Expected at least two different texts; a hundred or more are better.",
            remedy,
        )
