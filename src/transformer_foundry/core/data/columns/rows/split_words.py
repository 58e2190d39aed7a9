"""Words for splits in cells and in the names of files, also glued (``Testdaten``), shortened or in another language."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

__all__ = ["ABBREVIATIONS", "SPLIT_WORDS", "complements", "is_only_a_split", "split_in", "words_in"]

SPLIT_WORDS = {
    "train": ("train", "training", "trainset"),
    "validation": (
        "validation",
        "valid",
        "val",
        "dev",
        "eval",
        "validate",
        "valset",
        "devset",
        "evalset",
        "publictest",
    ),
    "test": ("test", "testing", "testset", "devtest", "privatetest"),
}
"""Split -> words for it in the names of files and in cells of any column."""

ABBREVIATIONS = {"train": ("trn", "tr"), "validation": ("vld", "va", "vl"), "test": ("tst", "te", "ts")}
"""Split -> what means it only beside others of its kind: tr and te are languages too."""

_OTHER_WORDS = {  # where the column or a name beside it says that splits are meant
    "train": ("trainings", "entrainement", "apprentissage", "entrenamiento", "addestramento", "treino", "treinamento"),
    "validation": ("validierung", "validierungs", "entwicklung", "validacion", "validacao", "validazione"),
    "test": ("holdout", "heldout", "unseen", "blind", "prueba", "pruebas", "teste"),
}
_CHINESE = {
    "训练": "train",
    "訓練": "train",
    "验证": "validation",
    "驗證": "validation",
    "测试": "test",
    "測試": "test",
}
_LATER = {"development": "validation", "evaluation": "validation"}
_WORDS = (
    {word: split for known in (SPLIT_WORDS, _OTHER_WORDS) for split, words in known.items() for word in words}
    | _LATER
    | _CHINESE
)
_GLUED = re.compile(r"s?(data|daten|dataset|datensatz|satz|menge|sets?|split|file|datei|corpus|texts?|examples|集)$")
# Words beside that of a split which leave the name one of a split.
_BESIDE = frozenset(
    (
        *(
            "data",
            "daten",
            "dataset",
            "set",
            "split",
            "file",
            "part",
            "shard",
            "of",
            "v",
            "version",
            "x",
            "xy",
            "final",
        ),
        *("clean", "cleaned", "examples", "rows", "texts", "corpus", "raw", "new"),
    )
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_HELD_OUT = re.compile(r"h(?:eld|old)[._ -]out")
_LETTERS = re.compile(r"[^\W\d_]+")
_SHORT = {word: split for split, words in ABBREVIATIONS.items() for word in words}
# Short words are whole words; the others may be glued to what stands before and after them.
_ANYWHERE = re.compile(
    "|".join(
        word if len(word) > 3 else rf"(?<![^\W\d_]){word}(?![^\W\d_])"
        for word in sorted({**_WORDS, **_SHORT}, key=lambda word: (-len(word), word))
    )
)


def words_in(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents.

    Example:
        >>> words_in("myTrainData_2"), words_in("Held-out")
        (['my', 'train', 'data'], ['heldout'])
    """
    return _LETTERS.findall(_plain(name))


def split_in(name: str) -> str | None:
    """Return the split that words of a name mean; None if there is none, or several.

    Example:
        >>> split_in("Train set"), split_in("train[:80%]"), split_in("Testdaten"), split_in("train or test")
        ('train', 'train', 'test', None)
    """
    found = {split for word in words_in(name) if (split := _split_of_word(word)) is not None}
    return found.pop() if len(found) == 1 else None


def is_only_a_split(name: str) -> bool:
    """Return whether a name has no other word than that of a split, and some such as data.

    Example:
        >>> is_only_a_split("test-00001-of-2"), is_only_a_split("drug_test")
        (True, False)
    """
    words = words_in(name)
    return split_in(name) is not None and all(_split_of_word(word) or word in _BESIDE for word in words)


def complements(names: Iterable[str]) -> dict[str, str]:
    """Return the split of names that differ only in a word for a split, one of them in a word for train.

    Example:
        >>> complements(["imdbtrain.csv", "imdbtest.csv", "drug_test.csv"])
        {'imdbtrain.csv': 'train', 'imdbtest.csv': 'test'}
    """
    groups: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    plain = {name: re.sub(r"\d+", "0", _plain(name)) for name in names}
    for name, text in plain.items():
        for match in _ANYWHERE.finditer(text):
            groups[text[: match.start()], text[match.end() :]][name] = match.group()
    found: dict[str, str] = {}
    for around, group in groups.items():
        splits = {name: _WORDS.get(word) or _SHORT[word] for name, word in group.items()}
        is_language = set(group.values()) <= _SHORT.keys() and _has_other_codes(plain, group, around)
        if "train" in splits.values() and len(set(splits.values())) > 1 and not is_language:
            found |= splits
    return found


def _has_other_codes(plain: Mapping[str, str], group: Collection[str], around: tuple[str, str]) -> bool:
    """Return whether names outside a group differ from it in another short word: tr and te beside de are languages."""
    start, end = around
    code = re.compile(re.escape(start) + r"[^\W\d_]{2,3}" + re.escape(end))
    return any(code.fullmatch(text) for name, text in plain.items() if name not in group)


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", _CAMEL.sub("_", name))
    return _HELD_OUT.sub("heldout", "".join(c for c in decomposed if not unicodedata.combining(c)).lower())


def _split_of_word(word: str) -> str | None:
    return _WORDS.get(word) or _WORDS.get(_GLUED.sub("", word))
