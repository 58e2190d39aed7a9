"""What the names of files and folders say: the split, the class, the other side of a pair."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from transformer_foundry.core.data.columns.split_column import SPLIT_WORDS

__all__ = ["class_folders", "parallel_files", "skipped_folder", "split_files", "split_from_name"]

_WITHOUT_CLASS = frozenset(("unsup", "unsupervised", "unlabeled", "unlabelled"))
_SOURCES, _TARGETS = ("src", "source", "input"), ("tgt", "trg", "target", "output")
_CODES = (
    "af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja "
    "ka kk km kn ko lo lt lv mk ml mn mr ms mt my nb ne nl nn no pa pl pt ro ru si sk sl sq sr sv sw ta "
    "te th tl tr uk ur uz vi zh zu"
)
_LANGUAGES = frozenset(_CODES.split())
_WORDS_BESIDE_TRAIN = {
    "validation": ("development", "evaluation"),
    "test": ("holdout", "heldout", "unseen", "blind", "tst"),
}
"""Split -> words that mean it beside a file named train, and anything else in another name."""
_HELD_OUT = re.compile(r"h(?:eld|old)[._ -]out")
_FEW_TEXTS = 4
_MADE_BY_TOOLS = frozenset(("__pycache__", "node_modules", "__macosx"))
_PARTS = re.compile(r"([._-])")


def split_from_name(name: str, *, beside_train: bool = False) -> str | None:
    """Return the split that the name of a file or of a split contains, if any.

    Args:
        name: The name, or a path.
        beside_train: Whether another one is named train: then words such as holdout mean a split too.

    Example:
        >>> split_from_name("data/dev-00001.csv"), split_from_name("unsupervised")
        ('validation', None)
        >>> split_from_name("held_out.csv", beside_train=True), split_from_name("development.md")
        ('test', None)
    """
    words = set(re.split(r"[^a-z]+", _HELD_OUT.sub("heldout", name.lower())))
    found = next((split for split, known in SPLIT_WORDS.items() if words.intersection(known)), None)
    if found is not None or not beside_train:
        return found
    return next((split for split, known in _WORDS_BESIDE_TRAIN.items() if words.intersection(known)), None)


def split_files(names: Sequence[Path], *, is_text: bool, has_classes: bool) -> tuple[dict[Path, str], list[Path]]:
    """Return the split of each file, and those that are training data only for want of a name beside files named train.

    Args:
        names: Paths of the files inside the folder.
        is_text: Whether they are texts. Of many, a name may have the word "test" or "valid" for another reason.
        has_classes: Whether folders are classes: then a name is none of a split.

    Example:
        >>> split_files([Path("train.csv"), Path("blind.csv"), Path("more.csv")], is_text=False, has_classes=False)[1]
        [PosixPath('more.csv')]
    """
    has_train = any(split_from_name(str(name)) == "train" for name in names)
    are_few = not is_text or len(names) <= _FEW_TEXTS
    is_named = (are_few or has_train) and not has_classes
    paths = {name: str(name if is_named else name.parent) for name in names}
    found = {name: split_from_name(path, beside_train=has_train and are_few) for name, path in paths.items()}
    if "train" not in found.values() and None not in found.values():
        return dict.fromkeys(names, "train"), []
    unnamed = [name for name, split in found.items() if split is None]
    is_odd = has_train and (are_few or len(unnamed) <= len(names) / 2)
    return {name: split or "train" for name, split in found.items()}, unnamed if is_odd else []


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
    parts = {name: [part for part in name.parent.parts if split_from_name(part) is None] for name in names}
    inside = {name: found for name, found in parts.items() if found}
    while inside and len({found[0] for found in inside.values()}) == 1:
        inside = {name: found[1:] for name, found in inside.items() if found[1:]}
    classes = {name: found[0] for name, found in inside.items() if found[0].lower() not in _WITHOUT_CLASS}
    return classes if len(set(classes.values())) > 1 else {}


def parallel_files(names: Sequence[Path]) -> dict[Path, tuple[Path, str, str]]:
    """Return source -> target and the names of both sides, if all files are pairs whose lines belong together.

    Their names differ in a word for the side (``train.src``, ``train.tgt``) or in a language (``train.de``,
    ``train.en``); of two languages, the first by name is the source.

    Example:
        >>> parallel_files([Path("train.en"), Path("train.de")])
        {PosixPath('train.de'): (PosixPath('train.en'), 'de', 'en')}
    """
    groups: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    for name in names:
        parts = _PARTS.split(name.name)
        side = next((part for part in parts if part.lower() in (*_SOURCES, *_TARGETS)), None)
        side = side or next((part for part in reversed(parts) if part.lower() in _LANGUAGES), None)
        if side is None:
            return {}
        place = len(parts) - 1 - parts[::-1].index(side)
        groups[str(name.with_name("".join([*parts[:place], "*", *parts[place + 1 :]])))][side] = name
    sides = {tuple(sorted(found, key=lambda side: (side.lower() in _TARGETS, side))) for found in groups.values()}
    if len(sides) != 1 or len(names) != 2 * len(groups):
        return {}
    first, second = next(iter(sides)) if len(next(iter(sides))) == 2 else ("", "")
    return {found[first]: (found[second], first, second) for found in groups.values()} if first else {}
