"""English and Python that is part of every CPython.

Language models read the language reference (``pydoc_data.topics``), optionally with the docstrings of the standard
library. Classification maps a docstring to its package, token classification labels the parts of a signature, and
sequence to sequence maps a signature to the first line of its docstring. Modules are parsed, never imported: importing
has side effects, and some modules fail.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import io
import keyword
import sys
import sysconfig
import tokenize
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.document import Columns, Document
from transformer_foundry.core.data.sources.files.sections import cut_sections, split_paragraphs

__all__ = ["PythonText"]

# Tests contain little English; distutils, lib2to3 and the pip inside ensurepip come and go between versions.
_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "distutils", "lib2to3", "ensurepip", "pydoc_data"}
)
_SHORTEST_DOCSTRING = 30  # characters; shorter ones are names, not sentences
_SHORTEST_REPEAT = 40  # characters; shorter paragraphs, such as "Note:", may repeat
_LONGEST_SIGNATURE = 200  # characters
_CLASSES = 12
_DOCSTRINGS_PER_CLASS = 250  # keeps the majority class near 1 in 10
# Of a section of the reference: 26 sections make a validation split of less variance than 4 long ones.
_SECTION_CHARACTERS = 800
_LARGE = "large"
_PARTS = ("operator", "name", "function", "keyword", "number", "string")  # of a signature, most frequent first
_OTHER_PART = "other"
_PART_OF_TOKEN = {tokenize.OP: "operator", tokenize.NUMBER: "number", tokenize.STRING: "string"}
_FORMAT = 3  # increment it whenever the same Python gives other documents


@dataclass(frozen=True, slots=True)
class _Docstring:
    """A docstring, the top-level package it is from, and the signature of its function (None for other objects)."""

    package: str
    signature: str | None
    text: str


class PythonText:
    """The built-in text for a task, as the only split "train".

    Args:
        task: The task of the model.
        num_labels: Number of classes of the model; if it is small, only the largest classes are kept.
        corrupts_spans: Whether an encoder-decoder learns to fill in hidden spans of prose instead of pairs.
        config_name: "large" adds the docstrings to the text of language models: 1.9 MB instead of 370 KB. A model of a
            million parameters beats a bigram sooner on the small text: 3.48 against 3.53 nats per token after 400 steps
            of 16 x 128 tokens, but 3.66 against 3.62 after 500 steps on the large text.

    Raises:
        DataError: If there is no built-in text for the task, or no such configuration.
    """

    name = "built-in text of Python"
    splits = ("train",)
    notes: tuple[str, ...] = ()

    def __init__(
        self, task: str, num_labels: int | None = None, config_name: str | None = None, *, corrupts_spans: bool = False
    ) -> None:
        prose = _large_prose if config_name == _LARGE else _prose
        readers: dict[str, Callable[[], Iterator[Document]]] = {
            "causal_lm": prose,
            "masked_lm": prose,
            "seq2seq_lm": prose if corrupts_spans else _summaries,
            "sequence_classification": self._labelled,
            "token_classification": self._tagged,
        }
        if task not in readers:
            raise DataError(
                f"There is no built-in text for the task {task}.",
                f"Expected one of: {', '.join(readers)}.",
                "Set data.source to your own dataset, or model.task to one of these.",
            )
        if task == "sequence_classification" and num_labels == 1:
            raise DataError(
                "The model has one output per text, for a number; the built-in text has only classes.",
                "Expected a table with a number for each text.",
                "Set data.source to it, or export the model with an output for each class.",
            )
        if config_name not in (None, _LARGE):
            raise DataError(
                f"data.config_name is {config_name}, which the built-in text does not have.",
                f"Expected null or '{_LARGE}'.",
                "Set data.config_name to null.",
            )
        self._read = readers[task]
        self._task = task
        self._num_labels = num_labels
        self._parts = (
            _PARTS if num_labels is None or num_labels >= len(_PARTS) else (*_PARTS[: num_labels - 1], _OTHER_PART)
        )

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The classes: packages, or parts of a signature."""
        if self._task == "token_classification":
            return self._parts
        return _largest_classes(self._num_labels) if self._task == "sequence_classification" else None

    @property
    def columns(self) -> Columns:
        """The columns that are read."""
        return {
            _summaries: Columns("signatures", target="first lines of docstrings"),
            self._labelled: Columns("docstrings", label="their packages"),
            self._tagged: Columns("signatures", label="the parts of their tokens"),
        }.get(self._read, Columns("the language reference"))

    def documents(self, split: str) -> Iterator[Document]:  # noqa: ARG002 - there is only one split
        """Yield every document."""
        return self._read()

    def location(self, split: str, number: int) -> str:
        """Return the number of a document."""
        return f"{self.name}, {split} {number + 1}"

    def digest(self) -> str:
        """Return the digest of the files that are read."""
        digest = hashlib.sha256(repr((_FORMAT, sys.version_info[:2], self._read.__name__, self._num_labels)).encode())
        reference = _folder() / "pydoc_data" / "topics.py"
        for path in (reference,) if self._read is _prose else (reference, *_module_files()):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _labelled(self) -> Iterator[Document]:
        classes, taken = _largest_classes(self._num_labels), Counter[str]()
        for text, package in _texts_of_one_package().items():
            if package in classes and taken[package] < _DOCSTRINGS_PER_CLASS:
                taken[package] += 1
                yield Document(text, label=package)

    def _tagged(self) -> Iterator[Document]:
        for document in _summaries():
            tokens = _tag_signature(document.text)
            tags = tuple(tag if tag in self._parts else _OTHER_PART for _, tag in tokens)
            words = tuple(word for word, _ in tokens)
            yield Document(" ".join(words), words=words, tags=tags)


def _prose(seen: set[str] | None = None) -> Iterator[Document]:
    """Yield sections of the language reference without the paragraphs in ``seen``, and add theirs to it."""
    from pydoc_data.topics import topics

    seen = set() if seen is None else seen
    for name in sorted(topics):
        paragraphs = (text for text in split_paragraphs(topics[name]) if _is_new(text, seen))
        yield from map(Document, cut_sections(paragraphs, _SECTION_CHARACTERS))


def _large_prose() -> Iterator[Document]:
    """Yield sections of the language reference, then docstrings."""
    seen: set[str] = set()
    yield from _prose(seen)
    for docstring in _docstrings():
        text = "\n\n".join(part for part in split_paragraphs(docstring.text) if _is_new(part, seen))
        if len(text) >= _SHORTEST_REPEAT:
            yield Document(text)


def _summaries() -> Iterator[Document]:
    """Yield pairs of a signature and the first line of its docstring; each signature once."""
    seen: set[str] = set()
    for docstring in _docstrings():
        signature, summary = docstring.signature, docstring.text.split("\n", 1)[0].strip()
        if signature and len(signature) <= _LONGEST_SIGNATURE and " " in summary and signature not in seen:
            seen.add(signature)
            yield Document(signature, target=summary)


def _tag_signature(signature: str) -> list[tuple[str, str]]:
    """Return the tokens of a signature, each with its part of speech; strings with spaces are left out."""
    tagged: list[tuple[str, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(signature).readline):
        word = token.string.strip()
        if not word or " " in word:
            continue
        if token.type == tokenize.NAME:
            follows_def = bool(tagged) and tagged[-1][0] == "def"
            part = "keyword" if keyword.iskeyword(word) else "function" if follows_def else "name"
        else:
            part = _PART_OF_TOKEN.get(token.type, "operator")
        tagged.append((word, part))
    return tagged


def _is_new(text: str, seen: set[str]) -> bool:
    key = " ".join(text.split())
    if len(key) < _SHORTEST_REPEAT:
        return True
    if key in seen:
        return False
    seen.add(key)
    return True


@functools.cache
def _texts_of_one_package() -> dict[str, str]:
    """Return the package of each docstring, without docstrings that several packages share."""
    packages: defaultdict[str, set[str]] = defaultdict(set)
    for docstring in _docstrings():
        if len(docstring.text) >= _SHORTEST_DOCSTRING:
            packages[docstring.text].add(docstring.package)
    return {text: next(iter(names)) for text, names in packages.items() if len(names) == 1}


def _largest_classes(num_labels: int | None) -> tuple[str, ...]:
    sizes = Counter(_texts_of_one_package().values())
    ranked = sorted(sizes, key=lambda package: (-sizes[package], package))
    return tuple(sorted(ranked[: min(num_labels or _CLASSES, _CLASSES)]))


@functools.cache
def _docstrings() -> tuple[_Docstring, ...]:
    """Return the docstrings of the standard library in a fixed order; parsed once per process (about 3 s)."""
    found: list[_Docstring] = []
    for path in _module_files():
        package = path.relative_to(_folder()).parts[0].removesuffix(".py")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in old modules
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # some distributions contain templates that are not Python
        found.extend(_walk(tree, package))
    return tuple(found)


def _walk(tree: ast.AST, package: str) -> Iterator[_Docstring]:
    """Yield the docstrings of a module and of its definitions, in the order of the file."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            raw = ast.get_docstring(node, clean=False)
            text = inspect.cleandoc(raw).strip() if raw else ""
            if text:
                yield _Docstring(package, _signature(node), text)
        # Expressions contain no definitions: visiting only statements is five times faster than ast.walk.
        waiting.extend(
            child
            for child in reversed(list(ast.iter_child_nodes(node)))
            if isinstance(child, ast.stmt | ast.excepthandler)
        )


def _signature(node: ast.AST) -> str | None:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{prefix} {node.name}({ast.unparse(node.args)})"


@functools.cache
def _module_files() -> tuple[Path, ...]:
    folder = _folder()
    files = [
        path
        for entry in sorted(folder.iterdir())
        if entry.name not in _SKIPPED_FOLDERS
        for path in ([entry] if entry.suffix == ".py" else sorted(entry.rglob("*.py")) if entry.is_dir() else [])
        if not _SKIPPED_FOLDERS.intersection(path.relative_to(folder).parts)
    ]
    if not files:
        raise DataError(
            f"This Python has no source files of its standard library in {folder}.",
            "Expected them, because the built-in text is read from them.",
            "Set data.source to your own dataset, or use a regular installation of Python.",
        )
    return tuple(files)


@functools.cache
def _folder() -> Path:
    return Path(sysconfig.get_path("stdlib"))
