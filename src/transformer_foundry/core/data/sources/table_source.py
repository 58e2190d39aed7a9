"""Tables as a source of documents: local files, URLs and the Hub, read by the ``datasets`` library."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.nested import flatten
from transformer_foundry.core.data.document import SPLIT_NAMES, Columns, Document
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources import read_errors
from transformer_foundry.core.data.sources.columns import choose_columns, to_document
from transformer_foundry.core.data.sources.local_files import (
    builder_of,
    check_file,
    digest_files,
    find_files,
    find_separator,
    looks_like_local_path,
    split_from_name,
)
from transformer_foundry.core.data.sources.rows import LocalRows, RemoteRows, Row, Rows, StreamedRows
from transformer_foundry.core.system.hub_client import limit_hub_waits

if TYPE_CHECKING:
    import datasets

    Table: TypeAlias = datasets.Dataset | datasets.IterableDataset

__all__ = ["TableSource", "open_table_source"]

_log = logging.getLogger(__name__)

_ROWS_TO_GUESS_FROM = 100
_NO_LABEL = -1  # the label in test splits of published benchmarks whose labels are secret
_LABELLED_TASKS = ("sequence_classification", "token_classification")


class TableSource:
    """A source of documents in tables, one table per split.

    Args:
        name: Name of the source in messages.
        tables: Rows of each split.
        task: The task of the model.
        options: May name the columns.
        digest: Returns the digest of the content.
        location: Returns file and row of a document, given its split and its number counted from 0.
        label_names: Declared names of the classes, by column.
    """

    def __init__(
        self,
        name: str,
        tables: Mapping[str, Rows],
        task: str,
        options: DataOptions,
        *,
        digest: Callable[[], str],
        location: Callable[[str, int], str],
        label_names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.name = name
        self._tables = dict(tables)
        self._location = location
        self._digest = digest
        self._has_tags = task == "token_classification"
        raw = self._tables["train"].head(_ROWS_TO_GUESS_FROM)
        first = [flatten(row) for row in raw]
        if not first:
            raise DataError(f"{name} has no rows.", "Expected rows of data.", "Check data.source and data.split.")
        self.columns = choose_columns(first, task, options, name)
        self.label_names = (label_names or {}).get(self.columns.label or "")
        self._drop_unlabelled_splits()
        for rows in self._tables.values():
            rows.select(_top_level(self.columns, raw[0]))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the dataset itself."""
        return tuple(name for name in SPLIT_NAMES if name in self._tables)

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of ``split``."""
        for number, row in enumerate(self._tables[split]):
            location = functools.partial(self._location, split, number)
            yield to_document(flatten(row), self.columns, location, has_tags=self._has_tags)

    def location(self, split: str, number: int) -> str:
        """Return the file, or split, and the row of a document."""
        return self._location(split, number)

    def digest(self) -> str:
        """Return the digest of the content, the columns and the splits."""
        return hashlib.sha256(repr((self._digest(), self.columns, self.splits)).encode()).hexdigest()

    def _drop_unlabelled_splits(self) -> None:
        for split in [name for name in self.splits if name != "train"]:
            first = self._tables[split].head(1)
            if not first:
                _log.info("The %s split of %s has no rows: it is taken from the train split.", split, self.name)
                del self._tables[split]
            elif self.columns.label and flatten(first[0]).get(self.columns.label) in (None, _NO_LABEL):
                _log.info("The %s split of %s has no labels and is not used.", split, self.name)
                del self._tables[split]


def open_table_source(options: DataOptions, task: str) -> TableSource:
    """Open the local path, URL or Hub dataset of ``data.source``.

    Raises:
        DataError: If it cannot be read, or its columns do not fit the task.
    """
    if "://" in options.source:
        return _open_remote(options, task, builder_of(Path(options.source.split("?", 1)[0])))
    if looks_like_local_path(options.source):
        return _open_local(options, task)
    return _open_remote(options, task, None)


def _open_local(options: DataOptions, task: str) -> TableSource:
    builder, files = find_files(options.source)
    if options.split is not None and options.split not in files:
        raise DataError(
            f"data.split is {options.split}, but {options.source} has: {', '.join(files)}.",
            "Expected one of them, or null.",
            "Set data.split to null; to use a part of the data, set data.max_documents.",
        )
    if options.split is not None:
        files = {"train": files[options.split]}
    for path in itertools.chain.from_iterable(files.values()):
        check_file(path, builder)
    needs_pairs = task == "seq2seq_lm" and options.span_corruption is False
    if builder == "text" and (task in _LABELLED_TASKS or needs_pairs):
        raise DataError(
            f"{options.source} is plain text, which has no {'targets' if needs_pairs else 'labels'}.",
            f"Expected a table, such as csv or jsonl, for the task {task}.",
            "Set data.source to a table, or model.task to causal_lm or masked_lm.",
        )
    tables = {split: LocalRows(builder, paths) for split, paths in files.items()}
    return TableSource(
        options.source,
        tables,
        task,
        options,
        digest=lambda: digest_files(itertools.chain.from_iterable(files.values())),
        location=lambda split, number: tables[split].location(number),
    )


def _open_remote(options: DataOptions, task: str, builder: str | None) -> TableSource:
    """Open a dataset through the cache of the ``datasets`` library, which also works offline."""
    found = _load(options, builder)
    tables = _name_splits(found, options.source) if isinstance(found, Mapping) else {"train": found}
    rows: dict[str, Rows]
    if options.streaming:
        rows = {split: StreamedRows(table, options.source, options.max_documents) for split, table in tables.items()}
    else:
        rows = {split: RemoteRows(table) for split, table in tables.items()}
    return TableSource(
        options.source,
        rows,
        task,
        options,
        digest=functools.partial(_digest_remote, options, builder, tables, rows),
        location=lambda split, number: f"{options.source}, split {split}, row {number + 1}",
        label_names=_declared_labels(tables["train"]),
    )


def _load(options: DataOptions, builder: str | None) -> Table | Mapping[str, Table]:
    import datasets

    location: dict[str, Any] = (
        {"path": options.source, "name": options.config_name, "revision": options.revision}
        if builder is None
        else {"path": builder, "data_files": options.source}
    )
    if builder == "csv":
        location["sep"] = find_separator(options.source)
    limit_hub_waits()
    try:
        # huggingface_hub itself retries temporary errors (5xx, 429, timeouts) five times, for about 25 s.
        return datasets.load_dataset(**location, split=options.split, streaming=options.streaming)
    except read_errors.catchable_errors() as err:
        raise read_errors.explain_remote_error(err, options.source) from err


def _digest_remote(
    options: DataOptions, builder: str | None, tables: Mapping[str, Table], rows: Mapping[str, Rows]
) -> str:
    """Return the library's digest of revision and files: hashing all rows would take minutes."""
    if not options.streaming:
        return repr(sorted((split, table._fingerprint) for split, table in tables.items()))
    if builder is None:
        from huggingface_hub import HfApi

        try:
            sha = HfApi().dataset_info(options.source, revision=options.revision).sha
        except read_errors.catchable_errors() as err:
            raise read_errors.explain_remote_error(err, options.source) from err
        return repr((sha, options.config_name, options.split, options.max_documents))
    return repr(
        sorted((split, streamed.digest()) for split, streamed in rows.items() if isinstance(streamed, StreamedRows))
    )


def _name_splits(found: Mapping[str, Table], source: str) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for name in sorted(found, key=lambda name: (name not in SPLIT_NAMES, name)):
        split = split_from_name(name)
        if split is not None:
            tables.setdefault(split, found[name])
    if "train" in tables:
        return tables
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    raise DataError(
        f"{source} has the splits {', '.join(found)}, and none of them is called train.",
        "Expected a split to train on.",
        "Set data.split to one of them.",
    )


def _declared_labels(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the declared names of classes and tags by column; a stream may declare none."""
    import datasets

    declared = {}
    for name, feature in (table.features or {}).items():
        single = getattr(feature, "feature", feature)
        if isinstance(single, datasets.ClassLabel) and single.names:
            declared[name] = tuple(single.names)
    return declared


def _top_level(columns: Columns, row: Row) -> list[str]:
    """Return the columns of the table to read: ``translation`` for ``translation.en``."""
    names = [name for name in (columns.text, columns.pair, columns.target, columns.label) if name is not None]
    return list(dict.fromkeys(name if name in row else name.split(".", 1)[0] for name in names))
