"""Rows of tables read with the ``datasets`` library: local files, downloaded datasets, streams."""

from __future__ import annotations

import glob
import hashlib
import itertools
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from transformer_foundry.core.data.sources import read_errors
from transformer_foundry.core.data.sources.local_files import find_separator
from transformer_foundry.core.data.sources.sections import join_lines, section_size

if TYPE_CHECKING:
    import datasets

__all__ = ["LocalRows", "RemoteRows", "Row", "Rows", "StreamedRows"]

Row = Mapping[str, Any]
_BATCH_ROWS = 1000


class Rows(Protocol):
    """The rows of one split; can be read any number of times."""

    def __iter__(self) -> Iterator[Row]: ...

    def head(self, count: int) -> list[Row]:
        """Return the first rows with all columns."""

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns from now on."""


class LocalRows:
    """The rows of local files of one format; they are streamed, without a copy in a cache.

    Args:
        builder: Name of the reader in ``datasets``.
        paths: The files, in order.
    """

    def __init__(self, builder: str, paths: Sequence[Path]) -> None:
        self._builder = builder
        self._paths = list(paths)
        self._size = sum(path.stat().st_size for path in paths)

    def __iter__(self) -> Iterator[Row]:
        try:
            rows = _stream(self._builder, self._paths)
            if self._builder == "text":
                lines = (row["text"] for row in rows)
                rows = ({"text": text} for text in join_lines(lines, section_size(self._size)))
            yield from rows
        except read_errors.catchable_errors() as err:
            raise read_errors.explain_file_error(err, self._builder, self._first_unreadable()) from err

    def head(self, count: int) -> list[Row]:
        """Return the first rows."""
        return list(itertools.islice(self, count))

    def select(self, names: Sequence[str]) -> None:
        """Do nothing: a row can only be parsed as a whole."""

    def location(self, number: int) -> str:
        """Return the file of a row, and its number in the file counted from 1."""
        for path in self._paths[:-1]:
            size = sum(1 for _ in LocalRows(self._builder, [path]))
            if number < size:
                return f"{path}, row {number + 1}"
            number -= size
        return f"{self._paths[-1]}, row {number + 1}"

    def _first_unreadable(self) -> Path:
        """Return the first file that cannot be read."""
        for path in self._paths[:-1]:
            try:
                for _ in _stream(self._builder, [path]):
                    pass
            except read_errors.catchable_errors():
                return path
        return self._paths[-1]


class RemoteRows:
    """The rows of a dataset that ``datasets`` has downloaded and memory-mapped.

    Args:
        table: The dataset.
    """

    def __init__(self, table: datasets.Dataset) -> None:
        self._table = table

    def __iter__(self) -> Iterator[Row]:
        # Reading row by row takes 20 times as long.
        for batch in self._table.iter(_BATCH_ROWS):
            names = list(batch)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(names, values, strict=True))

    def head(self, count: int) -> list[Row]:
        """Return the first rows."""
        return list(itertools.islice(self, count))

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns, so that images and audio are not decoded."""
        self._table = self._table.select_columns(list(names))


class StreamedRows:
    """The first rows of a stream, stored in a temporary file so that they are downloaded once.

    Args:
        table: The stream.
        source: Name of the stream in messages.
        limit: Largest number of rows; None reads all.
    """

    def __init__(self, table: datasets.IterableDataset, source: str, limit: int | None) -> None:
        self._table = table
        self._source = source
        self._limit = limit
        self._stored: IO[bytes] | None = None
        self._content = hashlib.sha256()

    def __iter__(self) -> Iterator[Row]:
        file = self._store()
        position = 0
        while True:
            # Several iterators share the file, so each seeks its own position.
            file.seek(position)
            try:
                batch = pickle.load(file)
            except EOFError:
                return
            position = file.tell()
            yield from batch

    def head(self, count: int) -> list[Row]:
        """Return the first rows."""
        return list(self._read(self._table.take(count)))

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns."""
        self._table = self._table.select_columns(list(names))

    def digest(self) -> str:
        """Return the sha256 of the stored rows."""
        self._store()
        return self._content.hexdigest()

    def _store(self) -> IO[bytes]:
        if self._stored is None:
            file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read again by later iterations
            table = self._table if self._limit is None else self._table.take(self._limit)
            rows = self._read(table)
            while batch := list(itertools.islice(rows, _BATCH_ROWS)):
                data = pickle.dumps(batch)
                file.write(data)
                self._content.update(data)
            self._stored = file
        return self._stored

    def _read(self, table: Iterable[Row]) -> Iterator[Row]:
        try:
            yield from table
        except read_errors.catchable_errors() as err:
            raise read_errors.explain_remote_error(err, self._source) from err


def _stream(builder: str, paths: list[Path]) -> Iterator[dict[str, Any]]:
    import datasets

    extra: dict[str, Any] = {"sep": find_separator(paths[0])} if builder == "csv" else {}
    files = {"train": [glob.escape(str(path)) for path in paths]}  # a name may contain characters of a pattern
    rows = datasets.load_dataset(builder, data_files=files, streaming=True, **extra)["train"]
    first = next(iter(rows), None)
    is_document = builder == "json" and any(".json" in path.suffixes for path in paths)
    if is_document and first is not None and len(first) == 1:
        [(field, value)] = first.items()
        if isinstance(value, list) and value and isinstance(value[0], dict):  # {"data": [rows]}
            rows = datasets.load_dataset(builder, data_files=files, streaming=True, field=field)["train"]
    yield from rows
