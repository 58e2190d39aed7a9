"""Rows of tables: local files, and datasets that the ``datasets`` library downloads or streams."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import bytes_in, decode_text
from transformer_foundry.core.data.columns.rows.row_sample import sample_rows
from transformer_foundry.core.data.limits import explain_memory, first_rows
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources import read_errors
from transformer_foundry.core.data.sources.files.formats import Table, open_table
from transformer_foundry.core.data.sources.files.json_tables.document import JsonTable
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.sections import section_size
from transformer_foundry.core.data.sources.files.separated.table import DelimitedTable
from transformer_foundry.core.data.sources.files.stored.arrow import ArrowTable
from transformer_foundry.core.data.sources.files.stored.spreadsheet import SpreadsheetTable

if TYPE_CHECKING:
    import datasets

__all__ = ["FilteredRows", "LocalRows", "RemoteRows", "Row", "Rows", "StreamedRows"]

Row = Mapping[str, Any]
_BATCH_ROWS = 1000
_FIRST_OF_STREAM = 100  # rows in which one is looked for that is kept
_MEDIA = ("Image", "Audio", "Video", "Pdf")  # decoding them takes longer than all else


class Rows(Protocol):
    """The rows of one split; can be read any number of times."""

    def __iter__(self) -> Iterator[Row]: ...

    def head(self, count: int) -> list[Row]:
        """Return the first rows with all columns."""

    def sample(self, count: int) -> list[Row]:
        """Return the first rows, and later ones that bring something new, with all columns; see ``sample_rows``."""

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns from now on."""


class LocalRows:
    """The rows of local files of one format; they are streamed, without a copy in a cache.

    Args:
        files: The files, in order.
        options: Header, columns and table.
        document: What one text is in plain text; see ``choose_document``.
        part: Share of a plain text that is read with ``document`` = file.
    """

    def __init__(
        self,
        files: Sequence[DataFile],
        options: DataOptions,
        document: str = "row",
        part: tuple[float, float] = (0, 1),
    ) -> None:
        self._files = list(files)
        self._options = options
        self._document = document
        self._part = part
        self._section_size = section_size(sum(file.path.stat().st_size for file in files))
        self._selected: list[str] | None = None

    @functools.cached_property
    def _tables(self) -> list[Table]:
        first = self._open(self._files[0], self._options)
        if not isinstance(first, DelimitedTable):
            return [first, *(self._open(file, self._options) for file in self._files[1:])]
        # The files of one table have a header all together, or none.
        options = dataclasses.replace(self._options, header=first.has_header)
        others = [self._open(file, options) for file in self._files[1:]]
        for file, table in zip(self._files[1:], others, strict=True):
            if isinstance(table, DelimitedTable) and set(table.names) != set(first.names):
                raise DataError(
                    f"{file.shown} has the columns {short_list(table.names)}, but {self._files[0].shown} has"
                    f" {short_list(first.names)}.",
                    "Expected the same columns in all files.",
                    "Correct the header, or set data.source to one of the files.",
                )
        return [first, *others]

    @property
    def notes(self) -> list[str]:
        """What was decided about the files, in sentences."""
        return list(dict.fromkeys(note for table in self._tables for note in table.notes))

    @property
    def warnings(self) -> list[str]:
        """What the user should know about the files, in sentences."""
        tables = [table for table in self._tables if isinstance(table, DelimitedTable | SpreadsheetTable)]
        return [warning for table in tables for warning in table.warnings]

    @property
    def hint(self) -> str:
        """What may explain that the rows cannot be used, in sentences; empty if nothing is known."""
        table = self._tables[0]
        return table.hint if isinstance(table, SpreadsheetTable | JsonTable) else ""

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the classes by column, where the files declare them."""
        return next((table.label_names for table in self._tables if isinstance(table, ArrowTable)), {})

    def __iter__(self) -> Iterator[Row]:
        for file, table in zip(self._files, self._tables, strict=True):
            with explain_memory(file.shown):
                yield from table

    def head(self, count: int) -> list[Row]:
        """Return the first rows; fewer if they are very large."""
        return first_rows(self, count)

    def sample(self, count: int) -> list[Row]:
        """Return the first rows, and those of all others that columns are chosen from; of these no pictures."""
        first = self.head(count)
        cells = dict.fromkeys(name for row in first for name in row)
        binary = {name for name in cells if any(bytes_in(row.get(name)) is not None for row in first)}
        if not binary:
            return sample_rows(self, first)
        if len(binary) == len(cells):
            return first
        tables = [table.without(binary) if isinstance(table, ArrowTable) else table for table in self._tables]
        return sample_rows(itertools.chain.from_iterable(tables), first)

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns where a format can; else a row can only be parsed as a whole."""
        for table in self._tables:
            if isinstance(table, ArrowTable):
                table.select(names)

    def location(self, number: int) -> str:
        """Return the file and line of a row; where there are no lines, its number in the file counted from 1."""
        for file, table in zip(self._files, self._tables, strict=True):
            size = sum(1 for _ in table) if len(self._files) > 1 else number + 1
            if number < size:
                if isinstance(table, SpreadsheetTable):
                    return table.place_of(number)
                line = table.line_of(number)
                return f"{file.shown}, row {number + 1}" if line is None else f"{file.shown}, line {line}"
            number -= size
        raise IndexError(number)

    def _open(self, file: DataFile, options: DataOptions) -> Table:
        with explain_memory(file.shown):
            return open_table(file, options, self._document, self._section_size, self._part)


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
                yield dict(zip(names, map(decode_text, values), strict=True))

    def head(self, count: int) -> list[Row]:
        """Return the first rows."""
        return list(itertools.islice(self, count))

    def sample(self, count: int) -> list[Row]:
        """Return the first rows, and those of all others that columns are chosen from; of these no media."""
        kept = [name for name, kind in self._table.features.items() if type(kind).__name__ not in _MEDIA]
        return sample_rows(RemoteRows(self._table.select_columns(kept)), self.head(count))

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

    def sample(self, count: int) -> list[Row]:
        """Return the first rows: to read all, all columns would have to be downloaded."""
        return self.head(count)

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns."""
        self._table = self._table.select_columns(list(names))

    @property
    def is_stored(self) -> bool:
        """Whether all rows are downloaded."""
        return self._stored is not None

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
            yield from ({name: decode_text(cell) for name, cell in row.items()} for row in table)
        except read_errors.catchable_errors() as err:
            raise read_errors.explain_remote_error(err, self._source) from err


class FilteredRows:
    """The rows of a table whose cell in one column says that they are wanted: those of a split, or accepted ones.

    Args:
        table: All rows.
        column: The column.
        is_kept: Returns whether a row with this cell is kept.
    """

    def __init__(self, table: Rows, column: str, is_kept: Callable[[object], bool]) -> None:
        self._table = table
        self._column = column
        self._is_kept = is_kept

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self._numbered())

    def head(self, count: int) -> list[Row]:
        """Return the first rows that are kept; of a stream, of its first rows, if one of them is."""
        if isinstance(self._table, StreamedRows) and not self._table.is_stored:
            # To read further would download all columns of all rows.
            read = self._table.head(max(count, _FIRST_OF_STREAM))
            found = [row for row in read if self._is_kept(row.get(self._column))]
            if found:
                return found[:count]
        return list(itertools.islice(self, count))

    def sample(self, count: int) -> list[Row]:
        """Return the first rows that are kept, and those of all others that columns are chosen from."""
        if isinstance(self._table, StreamedRows) and not self._table.is_stored:
            return self.head(count)
        return sample_rows(self, self.head(count))

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns, and the one that decides."""
        self._table.select(list(dict.fromkeys((*names, self._column))))

    def place(self, number: int) -> int:
        """Return the number in the table of a row that is kept, both counted from 0."""
        return next(itertools.islice(self._numbered(), number, None))[0]

    def _numbered(self) -> Iterator[tuple[int, Row]]:
        return ((number, row) for number, row in enumerate(self._table) if self._is_kept(row.get(self._column)))
