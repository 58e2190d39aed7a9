"""What the names of files and folders say: the split, the class, the other side of a pair."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformer_foundry.core.data.columns.rows.split_words import (
    SPLIT_WORDS,
    complements,
    is_only_a_split,
    split_in,
    words_in,
)

__all__ = [
    "NamedSplits",
    "are_shards",
    "class_folders",
    "is_side_of_pair",
    "parallel_files",
    "skipped_folder",
    "split_files",
    "split_from_name",
    "splits_of_tables",
]

_WITHOUT_CLASS = frozenset(("unsup", "unsupervised", "unlabeled", "unlabelled"))
_SIDES = (("src", "source", "input"), ("tgt", "trg", "target", "output"))
_KINDS_OF_TEXT = (  # sources and targets, as files of them are often called
    (
        *("sources", "inputs", "question", "questions", "query", "queries", "article", "articles", "document"),
        *("documents", "dialogue", "dialogues", "prompt", "prompts", "complex", "original", "text", "texts", "x"),
    ),
    (
        *("targets", "outputs", "answer", "answers", "summary", "summaries", "highlights", "response", "responses"),
        *("completion", "completions", "simple", "simplified", "corrected", "reference", "references", "y"),
    ),
)
_CODES = (
    "af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja "
    "ka kk km kn ko lo lt lv mk ml mn mr ms mt my nb ne nl nn no pa pl pt ro ru si sk sl sq sr sv sw ta "
    "te th tl tr uk ur uz vi zh zu"
)
_LONG_CODES = (
    "afr ara bel ben bul cat ces cze dan deu ger ell gre eng est eus fas fin fra fre glg heb hin hrv hun hye ind isl "
    "ita jpn kan kat kaz khm kor lao lav lit mal mar mkd msa mya nld dut nno nob nor pan pes pol por ron rum rus sin "
    "slk slv spa sqi srp swa swe swh tam tel tha tur ukr urd uzb vie zho zul"
)
_LANGUAGES = frozenset((*_CODES.split(), *_LONG_CODES.split()))
_WORDS_BESIDE_TRAIN = {
    "validation": ("development", "evaluation"),
    "test": ("unseen", "blind", "tst"),
}
"""Split -> words that mean it beside a file named train, and anything else in another name."""
_WORDS_IN_NAMES = SPLIT_WORDS | {"test": (*SPLIT_WORDS["test"], "holdout", "heldout")}
_HELD_OUT = re.compile(r"h(?:eld|old)[._ -]out")
_FEW_TEXTS = 4
_MADE_BY_TOOLS = frozenset(("__pycache__", "node_modules", "__macosx"))
# Parts of a name; a language may have a region or script: de_DE, zh-CN, deu_Latn.
_PARTS = re.compile(r"[a-z]{2,3}[-_](?:[A-Z][a-z]{3}|[A-Z]{2})(?![A-Za-z])|[._-]|[^._-]+")


def split_from_name(name: str, *, beside_train: bool = False) -> str | None:
    """Return the split that the name of a file or of a split contains, if any.

    Args:
        name: The name, or a path.
        beside_train: Whether another one is named train: then words such as blind mean a split too.

    Example:
        >>> split_from_name("data/dev-00001.csv"), split_from_name("unsupervised")
        ('validation', None)
        >>> split_from_name("held_out.csv"), split_from_name("blind.csv")
        ('test', None)
        >>> split_from_name("blind.csv", beside_train=True)
        'test'
    """
    words = set(re.split(r"[^a-z]+", _HELD_OUT.sub("heldout", name.lower())))
    found = next((split for split, known in _WORDS_IN_NAMES.items() if words.intersection(known)), None)
    if found is not None or not beside_train:
        return found
    return next((split for split, known in _WORDS_BESIDE_TRAIN.items() if words.intersection(known)), None)


@dataclass(frozen=True)
class NamedSplits:
    """What names of files say about splits.

    Attributes:
        splits: The split of each file.
        unnamed: Files that are training data only for want of a name beside files named train.
        ignored: Files that are training data although a part of their name is a word for a split.
    """

    splits: Mapping[Path, str]
    unnamed: Sequence[Path] = ()
    ignored: Sequence[Path] = ()


def split_files(names: Sequence[Path], *, is_text: bool, has_classes: bool) -> NamedSplits:
    """Return what the names of files inside a folder say about splits.

    A word for a split counts if it is a whole name (``test``, ``test-00001``), if other names have a word for train, or
    if the name without it is that of another file. Else it is a word such as that in ``drug_test``.

    Args:
        names: Paths of the files inside the folder.
        is_text: Whether they are texts. Of many, a name may have the word "test" or "valid" for another reason.
        has_classes: Whether folders are classes: then a name is none of a split.

    Example:
        >>> split_files([Path("train.csv"), Path("blind.csv"), Path("more.csv")], is_text=False, has_classes=False)
        ... # doctest: +ELLIPSIS
        NamedSplits(splits={...}, unnamed=[PosixPath('more.csv')], ignored=[])
    """
    beside = {} if is_text and has_classes else complements(map(str, names))
    has_train = "train" in beside.values() or any(_says_train(str(name)) for name in names)
    are_few = not is_text or len(names) <= _FEW_TEXTS
    is_named = (are_few or has_train) and not has_classes
    paths = {name: name if is_named else name.parent for name in names}
    found = {
        name: (beside.get(str(path)) if is_named else None)
        or split_from_name(str(path), beside_train=has_train and (are_few or has_classes))
        or (split_in(path.name) if has_train and are_few else None)
        for name, path in paths.items()
    }
    every = {_bare_path(name) for name in names}
    ignored = [name for name in names if found[name] and not (has_train or _decides(paths[name], every))]
    found |= dict.fromkeys(ignored)
    if "train" not in found.values() and None not in found.values():
        return NamedSplits(dict.fromkeys(names, "train"))
    unnamed = [name for name, split in found.items() if split is None]
    is_odd = has_train and (are_few or len(unnamed) <= len(names) / 2)
    splits = {name: split or "train" for name, split in found.items()}
    return NamedSplits(splits, unnamed if is_odd else [], ignored)


def splits_of_tables(names: Sequence[str]) -> dict[str, str]:
    """Return split -> table, if tables of a file are called after their splits, one of them train; else nothing.

    Example:
        >>> splits_of_tables(["Readme", "train data", "test data"]), splits_of_tables(["Jan", "Test"])
        ({'train': 'train data', 'test': 'test data'}, {})
    """
    beside = complements(names)
    splits = {name: split_in(name) if is_only_a_split(name) else beside.get(name) for name in names}
    found = {split: name for name, split in splits.items() if split is not None}
    is_clear = "train" in found and len(found) > 1 and len(found) == sum(map(bool, splits.values()))
    return found if is_clear else {}


def _says_train(path: str) -> bool:
    parts = Path(path).parts
    return split_from_name(path) == "train" or any(is_only_a_split(p) and split_in(p) == "train" for p in parts)


def _decides(path: Path, every: Collection[str]) -> bool:
    """Return whether a path says a split where no other one says train; ``every`` has the paths without endings."""
    stem = _bare_path(path)
    if stem.endswith("valid") and stem.removesuffix("valid") + "invalid" in every:
        return False
    if any(is_only_a_split(part) for part in (*path.parent.parts, Path(stem).name)):
        return True
    words = words_in(Path(stem).name)
    kept = [word for word in words if split_from_name(word) is None]
    return len(kept) < len(words) and any(words_in(Path(other).name) == kept for other in every)


def _bare_path(path: Path) -> str:
    return str(path.with_name(path.name.split(".", 1)[0])) if path.name else ""


def is_side_of_pair(name: str) -> bool:
    """Return whether the ending of a name is a language or a side of a pair: ``news.de``, ``train.src``.

    Example:
        >>> is_side_of_pair("news.de"), is_side_of_pair("news.ids")
        (True, False)
    """
    ending = _bare(name.rpartition(".")[2])
    return "." in name and any(ending in known for known in (_LANGUAGES, *_SIDES))


def skipped_folder(name: Path) -> str | None:
    """Return the part of a path for which a file is no data: a folder that tools fill, or a hidden folder or file.

    Args:
        name: The path inside the folder.

    Example:
        >>> skipped_folder(Path("src/__pycache__/a.pyc")), skipped_folder(Path("train/1.txt"))
        ('__pycache__', None)
    """
    return next((part for part in name.parts if part.startswith(".") or part.lower() in _MADE_BY_TOOLS), None)


def class_folders(names: Sequence[Path]) -> dict[Path, str]:
    """Return the class of each file that is in a folder of a class; empty if there are no such folders.

    The outermost folders below those of splits that have different names are the classes: ``pos`` and ``neg`` in
    ``train/pos/1.txt`` and ``test/neg/2.txt``. Folders of texts without a class (``unsup``) are none.

    Args:
        names: Paths of the files inside the folder.

    Example:
        >>> class_folders([Path("pos/1.txt"), Path("neg/1.txt"), Path("about.txt")])
        {PosixPath('pos/1.txt'): 'pos', PosixPath('neg/1.txt'): 'neg'}
    """
    folders = {name: name.parent.parts for name in names}
    has_train = any(split_from_name(part) == "train" for parts in folders.values() for part in parts)
    parts = {name: [part for part in found if not _is_of_split(part, has_train)] for name, found in folders.items()}
    inside = {name: found for name, found in parts.items() if found}
    while inside and len({found[0] for found in inside.values()}) == 1:
        inside = {name: found[1:] for name, found in inside.items() if found[1:]}
    classes = {name: found[0] for name, found in inside.items() if found[0].lower() not in _WITHOUT_CLASS}
    return classes if len(set(classes.values())) > 1 else {}


def _is_of_split(part: str, has_train: bool) -> bool:
    split = split_from_name(part, beside_train=has_train)
    return split is not None and (has_train or is_only_a_split(part))


def parallel_files(names: Sequence[Path]) -> dict[Path, tuple[Path, str, str]]:
    """Return source -> target and the names of both sides, if all files are pairs whose lines belong together.

    Their names differ in a word for the side (``train.src``, ``train.tgt``), in a language (``train.de``,
    ``train.en``) or in a kind of text (``questions.txt``, ``answers.txt``); of two languages, the first by name is the
    source.

    Example:
        >>> parallel_files([Path("train.en"), Path("train.de")])
        {PosixPath('train.de'): (PosixPath('train.en'), 'de', 'en')}
    """
    sides: tuple[Collection[str], Collection[str]]
    for sides in (_SIDES, (_LANGUAGES, _LANGUAGES), _KINDS_OF_TEXT):
        found = _pairs(names, *sides)
        if found:
            return found
    return _pairs(names, *_KINDS_OF_TEXT, has_side_as_ending=False)  # text is an ending too: questions.text


def _pairs(
    names: Sequence[Path], sources: Collection[str], targets: Collection[str], *, has_side_as_ending: bool = True
) -> dict[Path, tuple[Path, str, str]]:
    groups: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for name in names:
        parts = _PARTS.findall(name.name)
        searched = parts if has_side_as_ending else parts[:-1]
        known = [place for place, part in enumerate(searched) if _bare(part) in sources or _bare(part) in targets]
        if not known:
            return {}
        place = known[-1]
        groups[str(name.with_name("".join([*parts[:place], "*", *parts[place + 1 :]])))][parts[place]] = name
    sides = {tuple(sorted(found, key=lambda side: (_bare(side) not in sources, side))) for found in groups.values()}
    if len(sides) != 1 or len(names) != 2 * len(groups):
        return {}
    first, second = next(iter(sides)) if len(next(iter(sides))) == 2 else ("", "")
    if _bare(first) not in sources or _bare(second) not in targets:
        return {}
    return {found[first]: (found[second], first, second) for found in groups.values()}


def _bare(part: str) -> str:
    """Return a part of a name in lower case, a language without its region or script."""
    return part.lower() if len(part) == len(part.replace("_", "").replace("-", "")) else part[:3].strip("-_").lower()


def are_shards(names: Sequence[Path]) -> bool:
    """Return whether names differ only in numbers, or are those that ``split`` gives.

    Example:
        >>> are_shards([Path("part-01.txt"), Path("part-02.txt")]), are_shards([Path("xaa"), Path("xab")])
        (True, True)
    """
    return len({re.sub(r"\d+|\bx[a-z]{2}$", "", name.as_posix()) for name in names}) == 1
