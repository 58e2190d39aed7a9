"""Profiles of 230 countries: short, regular texts of which a small model learns to write whole sentences.

Language and masked models read cards of a country (its land, its people, its economy). Of the same lines are made pairs
(a question for a field, its text), regions, life expectancies, natural resources, and names in text without capitals.
"""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.document import Columns, Document

__all__ = ["CountryProfiles"]

_FILE = Path(__file__).with_name("countries.jsonl.xz")
_NAME, _LOCATION, _RESOURCES = "Name", "Location", "Natural resources"
_CARDS = (
    (_LOCATION, "Climate", "Terrain", _RESOURCES, "Natural hazards"),
    ("Capital", "Government", "Independence", "Languages", "Religions", "Flag"),
    ("Agriculture", "Industries", "Exports", "Imports"),
)
"""Lines of each card, below the name of the country: a card fits into 128 tokens of a vocabulary of 2,048."""

_OF_REGIONS = (("Climate", "Terrain", _RESOURCES, "Natural hazards"), (*_CARDS[2], "Flag"))
"""Lines from which a region is to be guessed; the others name places, languages or religions."""

_WITH_NAMES = (_LOCATION, "Terrain", "Languages", "Religions")
_FEWEST_LINES = 2  # of a card, below the name
_RESOURCES_ASKED = 10  # the rarest of them, iron ore, is in one profile of six
_FORMAT = 1  # increment it whenever the same file gives other documents

_Profile = Mapping[str, Any]


class CountryProfiles:
    """Profiles of countries for a task, as the only split "train".

    Args:
        task: The task of the model.
        num_labels: Number of outputs of the model. If it is small, only the largest regions or the most frequent
            resources are kept; with one output, a model of texts learns the life expectancy.
        corrupts_spans: Whether an encoder-decoder learns to fill in hidden spans of cards instead of pairs.

    Attributes:
        task: The task; for a model of texts with one output, regression.

    Raises:
        DataError: If the model has one output for several labels or tags.
    """

    name = "built-in profiles of countries"
    splits = ("train",)
    notes: tuple[str, ...] = (
        "The profiles are of the World Factbook of November 2015, a work of the government of the United States in "
        "the public domain.",
    )

    def __init__(self, task: str, num_labels: int | None = None, *, corrupts_spans: bool = False) -> None:
        one_number = task == "sequence_classification" and num_labels == 1
        self.task = "regression" if one_number else task
        readers: dict[str, tuple[Callable[[], Iterator[Document]], Columns]] = {
            "causal_lm": (_cards, Columns("profiles")),
            "masked_lm": (_cards, Columns("profiles")),
            "seq2seq_lm": (_pairs, Columns("questions for a field", target="fields of profiles")),
            "sequence_classification": (self._with_regions, Columns("profiles without names", label="regions")),
            "multi_label_classification": (
                self._with_resources,
                Columns("land of countries", label="natural resources", targets="names"),
            ),
            "regression": (_with_years, Columns("profiles without names", label="life expectancy", targets="number")),
            "token_classification": (_with_names, Columns("words without capitals", label="name or other")),
        }
        if task == "seq2seq_lm" and corrupts_spans:
            readers[task] = readers["causal_lm"]
        if num_labels == 1 and self.task in ("multi_label_classification", "token_classification"):
            raise DataError(
                "The model has one output, for one class.",
                "Expected at least two classes of tokens or labels.",
                "Export the model with more outputs.",
            )
        self._read, self.columns = readers[self.task]
        self._num_labels = num_labels

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The classes: regions, resources, or whether a word is a name."""
        if self.task == "token_classification":
            return ("other", "name")
        if self.task == "multi_label_classification":
            return _frequent_resources(self._num_labels)
        return _largest_regions(self._num_labels) if self.task == "sequence_classification" else None

    def documents(self, split: str) -> Iterator[Document]:  # noqa: ARG002 - there is only one split
        """Yield every document."""
        return self._read()

    def location(self, split: str, number: int) -> str:
        """Return the number of a document."""
        return f"{self.name}, {split} {number + 1}"

    def digest(self) -> str:
        """Return the digest of the file and of what is made of it."""
        made = (_FORMAT, self.task, str(self.columns), self._num_labels)
        return hashlib.sha256(_FILE.read_bytes() + repr(made).encode()).hexdigest()

    def _with_regions(self) -> Iterator[Document]:
        regions = _largest_regions(self._num_labels)
        for profile in _profiles():
            if profile["region"] in regions:
                yield from (Document(text, label=profile["region"]) for text in _without_names(profile))

    def _with_resources(self) -> Iterator[Document]:
        asked = _frequent_resources(self._num_labels)
        for profile in _profiles():
            if _RESOURCES in profile:
                found = _entries(profile[_RESOURCES])
                text = _lines(profile, (_LOCATION, "Climate", "Terrain"))
                yield Document(text, present=tuple(name for name in asked if name in found))


def _cards() -> Iterator[Document]:
    """Yield the cards of every country, each below its name."""
    for profile in _profiles():
        for names in _CARDS:
            if sum(name in profile for name in names) >= _FEWEST_LINES:
                yield Document(_lines(profile, (_NAME, *names)))


def _pairs() -> Iterator[Document]:
    """Yield each field with the question for it."""
    for profile in _profiles():
        place = ", ".join(profile[name] for name in (_NAME, _LOCATION) if name in profile)
        for name in (name for card in _CARDS for name in card):
            if name in profile and name != _LOCATION:
                yield Document(f"{name} of {place}", target=profile[name])


def _with_years() -> Iterator[Document]:
    for profile in _profiles():
        years = profile["life expectancy"]
        if years is not None:
            yield from (Document(text, number=years) for text in _without_names(profile))


def _with_names() -> Iterator[Document]:
    """Yield lines without capitals, with a tag for each word that had one: a name, or an adjective of one."""
    for profile in _profiles():
        for name in (name for name in _WITH_NAMES if name in profile):
            written = re.findall(r"[\w'-]+|[^\w\s]", profile[name])
            words = tuple(word.lower() for word in written)
            tags = tuple("name" if word[0].isupper() else "other" for word in written)
            yield Document(" ".join(words), words=words, tags=tags)


def _without_names(profile: _Profile) -> Iterator[str]:
    """Yield the land and the economy of a country without the parts of lines that hold a capital letter."""
    for names in _OF_REGIONS:
        kept = {name: _without_capitals(profile[name]) for name in names if name in profile}
        filled = {name: text for name, text in kept.items() if text}
        if len(filled) >= _FEWEST_LINES:
            yield _lines(filled, names)


def _without_capitals(text: str) -> str:
    return ", ".join(part for part in _entries(text) if not re.search("[A-Z]", part))


def _lines(profile: _Profile, names: tuple[str, ...]) -> str:
    return "\n".join(f"{name}: {profile[name]}" for name in names if name in profile)


def _entries(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split("[,;]", text))


@functools.cache
def _profiles() -> tuple[_Profile, ...]:
    return tuple(map(json.loads, lzma.decompress(_FILE.read_bytes()).decode().splitlines()))


def _largest_regions(num_labels: int | None) -> tuple[str, ...]:
    return _most_frequent(Counter(profile["region"] for profile in _profiles()), num_labels)


def _frequent_resources(num_labels: int | None) -> tuple[str, ...]:
    found = Counter(entry for profile in _profiles() for entry in _entries(profile.get(_RESOURCES, "")) if entry)
    return _most_frequent(found, min(num_labels or _RESOURCES_ASKED, _RESOURCES_ASKED))


def _most_frequent(counts: Counter[str], number: int | None) -> tuple[str, ...]:
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return tuple(sorted(ranked[:number]))
