"""Checks of classes: names that look alike, and names that stand in the texts that they label."""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from transformer_foundry.core.base.text import short_list

__all__ = ["LabelLeak", "find_look_alikes"]

_EXAMINED = 2000  # documents
_EXAMINED_END = 5000  # characters of the beginning and of the end of a document
_MOST_NAMES = 200
_WORD = re.compile(r"\w+(?:\.\d+)?")
_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")  # the sign of -1 is none
_LEAKED = 0.8  # share of the texts of a class that contain its name
_LIFT = 2.0  # times as often as in the texts of the other classes
_SIGNIFICANT = 1e-3  # for all classes together
_FEW_TEXTS = 20


class LabelLeak:
    """Compares how often the name of a class stands in its own texts and in those of the other classes.

    Args:
        declared: Names of the classes if labels are their numbers.
    """

    def __init__(self, declared: Sequence[str] = ()) -> None:
        self._declared = declared
        self._random = random.Random(0)
        self._seen = 0
        self._sample: list[tuple[str, str]] = []

    def add(self, text: str, label: object) -> None:
        """Add a text and its class; a random sample of 2,000 is examined, as files may be sorted by class."""
        if isinstance(label, int) and 0 <= label < len(self._declared):
            label = self._declared[label]
        name = _words(str(label))
        if not name:
            return
        self._seen += 1
        place = len(self._sample) if self._seen <= _EXAMINED else self._random.randrange(self._seen)
        if place >= _EXAMINED:
            return
        if len(text) > 2 * _EXAMINED_END:
            text = f"{text[:_EXAMINED_END]} {text[-_EXAMINED_END:]}"
        self._sample[place : place + 1] = [(text, name)]

    def warning(self) -> str | None:
        """Return a sentence if most texts of a class contain its name, and clearly fewer texts of other classes do."""
        labels = Counter(name for _, name in self._sample)
        names = [name for name, _ in labels.most_common(_MOST_NAMES)]
        if len(self._sample) < _FEW_TEXTS or len(labels) < 2:
            return None
        own, elsewhere = Counter[str](), Counter[str]()
        for text, label in self._sample:
            words = f" {_words(text)} "
            for name in names:
                if f" {name} " in words:
                    (own if name == label else elsewhere)[name] += 1
        texts = len(self._sample)
        leaked = [
            name
            for name in names
            if own[name] >= _LEAKED * labels[name]
            and own[name] / labels[name] >= _LIFT * elsewhere[name] / (texts - labels[name])
            and _chance(own[name], labels[name], own[name] + elsewhere[name], texts) < _SIGNIFICANT / len(names)
        ]
        if not leaked:
            return None
        remedy = "the model can read the answer; remove it from the texts."
        if own.total() >= _LEAKED * texts:
            expected = sum(labels[name] * elsewhere[name] / (texts - labels[name]) for name in names)
            which = f"{own.total()} of {texts} examined texts contain the name of their class"
            return f"{which} ({expected:.0f} by chance): {remedy}"
        name = leaked[0]
        more = f" (and alike: {short_list(leaked[1:], 4)})" if leaked[1:] else ""
        return (
            f"{own[name]} of {labels[name]} examined texts of the class {name} contain its name, and {elsewhere[name]}"
            f" of {texts - labels[name]} others{more}: {remedy}"
        )


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def _chance(own: int, of_class: int, found: int, texts: int) -> float:
    """Return the probability that at least ``own`` of the ``found`` texts fall in the class (Fisher's exact test)."""
    ways = sum(
        math.comb(of_class, count) * math.comb(texts - of_class, found - count)
        for count in range(own, min(of_class, found) + 1)
    )
    return ways / math.comb(texts, found)


def find_look_alikes(names: Iterable[str]) -> str | None:
    """Return a sentence that names classes that differ only in case, blanks, hyphens, underscores, or to no eye.

    Example:
        >>> find_look_alikes(["Positive", "negative", "positive"])
        "Classes look alike: 'Positive' and 'positive'; write them in one way if they are one class."
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        # Composed and decomposed letters are one to the eye; marks of direction and width are none.
        seen = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
        groups[_BETWEEN_WORDS.sub(" ", seen).strip().casefold()].append(name)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not alike:
        return None
    return f"Classes look alike: {short_list(alike, 4)}; write them in one way if they are one class."
