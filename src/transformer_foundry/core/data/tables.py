"""Data sets read by the ``datasets`` library: from the Hugging Face Hub, from a URL, or from local files."""

from __future__ import annotations

import functools
import glob
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.data import faults
from transformer_foundry.core.data.columns import Columns, choose_columns, flatten, to_document
from transformer_foundry.core.data.documents import SPLIT_NAMES, Document
from transformer_foundry.core.data.files import (
    builder_of,
    check_file,
    digest_files,
    find_files,
    looks_like_path,
    split_of,
)
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sections import join_lines, section_size
from transformer_foundry.core.errors import DataError

__all__ = ["TableSource", "open_table"]

_ROWS_TO_GUESS_FROM = 100
_NO_LABEL = -1  # what test splits of published benchmarks hold where the label is secret
_UNLABELLED_TASKS = ("causal_lm", "masked_lm")


class TableSource:
    """Documents from the rows of tables, one table for each split.

    Args:
        name: What to call it in messages.
        tables: Split -> rows; can be iterated any number of times.
        task: What the documents are for.
        options: May name the columns.
        stamp: Computes the digest of the content.
        place: Says where a row of a split is, given its number from 0.
        label_names: Names of the classes where the data declare them, by column.
    """

    def __init__(
        self,
        name: str,
        tables: Mapping[str, Iterable[Mapping[str, Any]]],
        task: str,
        options: DataOptions,
        *,
        stamp: Callable[[], str],
        place: Callable[[str, int], str],
        label_names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._name = name
        self._tables = dict(tables)
        self._place = place
        self._stamp = stamp
        first = [flatten(row) for row in itertools.islice(self._rows("train"), _ROWS_TO_GUESS_FROM)]
        if not first:
            raise DataError(f"{name} has no rows.", "Expected rows of data.", "Check data.source and data.split.")
        self.columns: Columns = choose_columns(first, task, options, name)
        self._label_names = (label_names or {}).get(self.columns.label or "")
        self._drop_unlabelled_splits()

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self._name

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the data set itself."""
        return tuple(name for name in SPLIT_NAMES if name in self._tables)

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes where the data declare them."""
        return self._label_names

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of ``split``."""
        for number, row in enumerate(self._rows(split)):
            yield to_document(flatten(row), self.columns, functools.partial(self._place, split, number))

    def stamp(self) -> str:
        """Digest of the content, the columns and the splits."""
        return hashlib.sha256(repr((self._stamp(), self.columns, self.splits)).encode()).hexdigest()

    def _rows(self, split: str) -> Iterator[Mapping[str, Any]]:
        return iter(self._tables[split])

    def _drop_unlabelled_splits(self) -> None:
        if self.columns.label is None:
            return
        for split in [name for name in self.splits if name != "train"]:
            row = next(self._rows(split), None)
            if row is None or flatten(row).get(self.columns.label) in (None, _NO_LABEL):
                del self._tables[split]


def open_table(options: DataOptions, task: str) -> TableSource:
    """Open the local path, URL or Hub data set that ``data.source`` names.

    Raises:
        DataError: If it cannot be read or its columns do not fit the task.
    """
    if task == "token_classification":
        raise DataError(
            "Data sets for token classification cannot be read yet.",
            "Expected causal_lm, masked_lm, seq2seq_lm or sequence_classification.",
            "Set model.task to one of them.",
        )
    if "://" in options.source:
        return _open_remote(options, task, builder_of(Path(options.source.split("?", 1)[0])))
    if looks_like_path(options.source):
        return _open_local(options, task)
    return _open_remote(options, task, None)


def _open_local(options: DataOptions, task: str) -> TableSource:
    builder, files = find_files(options.source)
    if options.split is not None and options.split not in files:
        raise DataError(
            f"data.split is {options.split}, but {options.source} has: {', '.join(files)}.",
            "Expected one of them, or null.",
            "Set data.split to null; data.max_documents takes a part of the data.",
        )
    if options.split is not None:
        files = {"train": files[options.split]}
    for path in itertools.chain.from_iterable(files.values()):
        check_file(path, builder)
    if builder == "text" and task not in _UNLABELLED_TASKS:
        raise DataError(
            f"{options.source} is plain text, which has no {'labels' if 'class' in task else 'targets'}.",
            f"The task {task} needs a table, such as csv or jsonl.",
            "Set data.source to a table, or model.task to causal_lm or masked_lm.",
        )
    return TableSource(
        options.source,
        {split: _LocalRows(builder, paths) for split, paths in files.items()},
        task,
        options,
        stamp=lambda: digest_files(itertools.chain.from_iterable(files.values())),
        place=lambda split, number: _place_in_files(builder, files[split], number),
    )


class _LocalRows:
    """The rows of local files of one format, streamed: nothing is copied into a cache."""

    def __init__(self, builder: str, paths: list[Path]) -> None:
        self._builder = builder
        self._paths = paths
        self._size = sum(path.stat().st_size for path in paths)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            rows = _stream(self._builder, self._paths)
            if self._builder == "text":
                lines = (row["text"] for row in rows)
                rows = ({"text": text} for text in join_lines(lines, section_size(self._size)))
            yield from rows
        except faults.read_errors() as err:
            raise faults.explain_file(err, self._builder, self._find_culprit()) from err

    def _find_culprit(self) -> Path:
        """Return the first file that cannot be read alone."""
        for path in self._paths[:-1]:
            try:
                for _ in _stream(self._builder, [path]):
                    pass
            except faults.read_errors():
                return path
        return self._paths[-1]


def _stream(builder: str, paths: list[Path]) -> Iterator[dict[str, Any]]:
    import datasets

    # A tsv is read by the builder of csv; its ending says how the fields are separated.
    extra: dict[str, Any] = {"sep": "\t"} if any(".tsv" in path.suffixes for path in paths) else {}
    files = {"train": [glob.escape(str(path)) for path in paths]}  # a name may hold what looks like a pattern
    rows = datasets.load_dataset(builder, data_files=files, streaming=True, **extra)["train"]
    first = next(iter(rows), None)
    if builder == "json" and first is not None and len(first) == 1:
        [(field, value)] = first.items()
        if isinstance(value, list) and value and isinstance(value[0], dict):  # {"data": [rows]}
            rows = datasets.load_dataset(builder, data_files=files, streaming=True, field=field)["train"]
    yield from rows


def _place_in_files(builder: str, paths: list[Path], number: int) -> str:
    """Say in which file, and in which row of it counted from 1, a row of a split is."""
    for path in paths[:-1]:
        size = sum(1 for _ in _LocalRows(builder, [path]))
        if number < size:
            return f"{path}, row {number + 1}"
        number -= size
    return f"{paths[-1]}, row {number + 1}"


def _open_remote(options: DataOptions, task: str, builder: str | None) -> TableSource:
    """Read through the cache of the ``datasets`` library; without a network, what is cached is found."""
    import datasets

    location: dict[str, Any] = (
        {"path": options.source, "name": options.config_name, "revision": options.revision}
        if builder is None
        else {"path": builder, "data_files": options.source}
    )
    try:
        found = datasets.load_dataset(**location, split=options.split)
    except faults.read_errors() as err:
        raise faults.explain_remote(err, options.source) from err
    tables = {"train": found} if isinstance(found, datasets.Dataset) else _name_splits(found, options.source)
    return TableSource(
        options.source,
        tables,
        task,
        options,
        # The library's own digest of revision and files: reading all rows to hash them would cost minutes.
        stamp=lambda: repr(sorted((split, table._fingerprint) for split, table in tables.items())),
        place=lambda split, number: f"{options.source}, split {split}, row {number + 1}",
        label_names=_declared_labels(tables["train"]),
    )


def _name_splits(found: Mapping[str, Any], source: str) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for name in sorted(found, key=lambda name: (name not in SPLIT_NAMES, name)):
        split = split_of(name)
        if split is not None:
            tables.setdefault(split, found[name])
    if "train" in tables:
        return tables
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    raise DataError(
        f"{source} has the splits {', '.join(found)}, and none of them is called train.",
        "Expected a split to train on.",
        "Choose one: data.split=NAME.",
    )


def _declared_labels(table: Any) -> dict[str, tuple[str, ...]]:
    import datasets

    return {
        name: tuple(feature.names)
        for name, feature in table.features.items()
        if isinstance(feature, datasets.ClassLabel) and feature.names
    }
