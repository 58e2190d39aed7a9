"""The reader of each format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.json_tables.document import JsonTable
from transformer_foundry.core.data.sources.files.json_tables.lines import JsonLines
from transformer_foundry.core.data.sources.files.kind import TEXTS, DataFile
from transformer_foundry.core.data.sources.files.labelled_lines import ConllTable, FastTextTable
from transformer_foundry.core.data.sources.files.plain_text import ParallelTable, TextTable
from transformer_foundry.core.data.sources.files.separated.table import DelimitedTable
from transformer_foundry.core.data.sources.files.stored.spreadsheet import SpreadsheetTable
from transformer_foundry.core.data.sources.files.stored.sqlite import SqliteTable
from transformer_foundry.core.data.sources.files.stored.stored_tables import ArrowTable
from transformer_foundry.core.data.sources.files.stored.token_ids import TokenIdTable

__all__ = ["Table", "open_table"]


class Table(Protocol):
    """The rows of one file; can be read any number of times."""

    notes: list[str]

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...

    def line_of(self, number: int) -> int | None:
        """Return the line where row ``number`` (from 0) begins; None where there are no lines."""


_WITHOUT_NAMES = ("delimited", "conll", "json", "json_lines", "xlsx")


def _check_options(file: DataFile, options: DataOptions) -> None:
    """Refuse options that a format does not have: they would be ignored."""
    name = file.kind.format
    if options.columns is not None and name not in _WITHOUT_NAMES and name not in TEXTS:
        raise DataError(
            f"data.columns is set, but the columns of {file.shown} ({name}) have names of their own.",
            "Expected data.columns only for a table without names: csv, a list of lists in json, xlsx, CoNLL.",
            "Set data.columns to null, and data.text_column and the like to the names in the file.",
        )
    if file.kind.compression is not None and file.kind.encoding is None:
        raise DataError(
            f"{file.shown} is compressed ({file.kind.compression}), and {name} in it cannot be read from a stream.",
            "Expected only text formats to be compressed as a whole.",
            "Decompress the file, for example with gunzip.",
        )
    if options.table is not None and name not in ("sqlite", "xlsx"):
        raise DataError(
            f"data.table is {options.table}, but {file.shown} holds only one table ({name.replace('_', ' ')}).",
            "Expected data.table only for SQLite and xlsx files.",
            "Set data.table to null.",
        )


def open_table(
    file: DataFile, options: DataOptions, document: str = "row", size: int = 0, part: tuple[float, float] = (0, 1)
) -> Table:
    """Return the rows of a file.

    Args:
        file: The file.
        options: Header, columns and table.
        document: What one text is in a file of plain text.
        size: Characters of a section of plain text.
        part: Share of a plain text that is read with ``document`` = file.

    Raises:
        DataError: If the file cannot be read.
    """
    name = file.kind.format
    _check_options(file, options)
    if file.partner is not None:
        return ParallelTable(file)
    if name in TEXTS:
        return TextTable(file, document, size, part)
    if name == "delimited":
        return DelimitedTable(file, options)
    if name == "conll":
        return ConllTable(file, options)
    if name == "fasttext":
        return FastTextTable(file)
    if name == "json_lines":
        return JsonLines(file, options)
    if name == "json":
        return JsonTable(file, options)
    if name in ("parquet", "arrow"):
        return ArrowTable(file)
    if name == "xlsx":
        return SpreadsheetTable(file, options)
    if name == "sqlite":
        return SqliteTable(file, options)
    return TokenIdTable(file, options)
