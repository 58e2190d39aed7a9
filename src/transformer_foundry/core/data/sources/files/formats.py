"""``FORMATS``, the formats of files: names in messages, endings, first bytes and the reader of each; ``open_table``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.json_tables.document import JsonTable
from transformer_foundry.core.data.sources.files.json_tables.lines import JsonLines
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.labelled_lines import ConllTable, FastTextTable
from transformer_foundry.core.data.sources.files.plain_text import ParallelTable, TextTable
from transformer_foundry.core.data.sources.files.separated.table import DelimitedTable
from transformer_foundry.core.data.sources.files.stored.arrow import ArrowTable
from transformer_foundry.core.data.sources.files.stored.spreadsheet import SpreadsheetTable
from transformer_foundry.core.data.sources.files.stored.sqlite import SqliteTable
from transformer_foundry.core.data.sources.files.stored.token_ids import TokenIdTable

__all__ = ["ARCHIVES", "DATA_ENDINGS", "FORMATS", "GROUPS", "TEXTS", "Format", "Table", "open_table"]


class Table(Protocol):
    """The rows of one file; can be read any number of times."""

    notes: list[str]

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...

    def line_of(self, number: int) -> int | None:
        """Return the line where row ``number`` (from 0) begins; None where there are no lines."""


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        group: Name in messages; files of one group may stand side by side in a folder.
        contents: rows, texts without rows (``data.document`` says what one text is), ids (of tokens), or files.
        endings: Endings of the names of such files. They tell data from other files of a folder, and break ties where
            ``sniff`` recognizes a text.
        signatures: What a binary file begins with; empty for a text, which ``sniff`` recognizes.
        reader: Returns the rows of a file; None for texts and archives.
        takes: Those of the options ``data.columns`` and ``data.table`` that apply; the others are refused.
    """

    group: str
    contents: Literal["rows", "texts", "ids", "files"]
    endings: tuple[str, ...] = ()
    signatures: tuple[bytes, ...] = ()
    reader: Callable[[DataFile, DataOptions], Table] | None = None
    takes: tuple[str, ...] = ()


_ARROW = (b"ARROW1\x00\x00", b"\xff\xff\xff\xff")  # a stream begins with this mark and the length of the schema
FORMATS: Mapping[str, Format] = {
    "delimited": Format("csv", "rows", (".csv", ".tsv", ".tab", ".psv"), reader=DelimitedTable, takes=("columns",)),
    "conll": Format("conll", "rows", (".conll", ".conllu"), reader=ConllTable, takes=("columns",)),
    "fasttext": Format("fasttext", "rows", reader=lambda file, _: FastTextTable(file)),
    "json": Format("json", "rows", (".json", ".geojson"), reader=JsonTable, takes=("columns",)),
    "json_lines": Format("json", "rows", (".jsonl", ".ndjson"), reader=JsonLines, takes=("columns",)),
    "parquet": Format("parquet", "rows", (".parquet",), (b"PAR1",), lambda file, _: ArrowTable(file)),
    "arrow": Format("arrow", "rows", (".arrow", ".feather"), _ARROW, lambda file, _: ArrowTable(file)),
    # A zip file of certain members: ``archive.zip_format`` recognizes it.
    "xlsx": Format("xlsx", "rows", (".xlsx",), reader=SpreadsheetTable, takes=("columns", "table")),
    "sqlite": Format(
        "sqlite", "rows", (".db", ".sqlite", ".sqlite3"), (b"SQLite format 3\x00",), SqliteTable, ("table",)
    ),
    "npy": Format("npy", "ids", (".npy",), (b"\x93NUMPY",), TokenIdTable),
    # Raw numbers without a signature: the ending decides.
    "token_ids": Format("token ids", "ids", (".bin", ".u16", ".ids"), reader=TokenIdTable),
    "text": Format("text", "texts", (".txt", ".text", ".md", ".rst", ".log", ".data")),
    "fasta": Format("fasta", "texts", (".fasta", ".fa", ".faa", ".fna")),
    "zip": Format("zip", "files", (".zip",), (b"PK\x03\x04",)),
    # Its mark is not at the beginning: ``signatures.stored_format`` knows the place.
    "tar": Format("tar", "files", (".tar", ".tgz")),
}
"""Name of a format, as in ``FileKind.format`` -> what is known of it."""

_REFUSED_ENDINGS = (".xls", ".pkl", ".pickle")
TEXTS = tuple(name for name, known in FORMATS.items() if known.contents == "texts")
"""Formats that have no rows of their own: ``data.document`` says what one text is."""
ARCHIVES = tuple(name for name, known in FORMATS.items() if known.contents == "files")
"""Formats that hold files."""
GROUPS = tuple(dict.fromkeys(known.group for known in FORMATS.values() if known.contents != "files"))
"""The formats that are read, as messages name them."""
DATA_ENDINGS = frozenset((*_REFUSED_ENDINGS, *(ending for known in FORMATS.values() for ending in known.endings)))
"""Endings by which a name is taken for a file, and data are told from other files in a folder; refused data too."""


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
        ValueError: If its format has no reader: an archive must be unpacked.
    """
    name = file.kind.format
    _check_options(file, options)
    if file.partner is not None:
        return ParallelTable(file)
    if name in TEXTS:
        return TextTable(file, document, size, part)
    reader = FORMATS[name].reader
    if reader is None:
        raise ValueError(f"{file.shown}: the format {name} has no reader.")
    return reader(file, options)


def _check_options(file: DataFile, options: DataOptions) -> None:
    """Refuse options that a format does not have: they would be ignored."""
    name = file.kind.format
    if options.columns is not None and "columns" not in FORMATS[name].takes and name not in TEXTS:
        raise DataError(
            f"data.columns is set, but the columns of {file.shown} ({name}) have names of their own.",
            f"Expected data.columns only for a table without names, which these may hold: {_taking('columns')}.",
            "Set data.columns to null, and data.text_column and the like to the names in the file.",
        )
    if file.kind.compression is not None and file.kind.encoding is None:
        raise DataError(
            f"{file.shown} is compressed ({file.kind.compression}), and {name} in it cannot be read from a stream.",
            "Expected only text formats to be compressed as a whole.",
            "Decompress the file, for example with gunzip.",
        )
    if options.table is not None and "table" not in FORMATS[name].takes:
        raise DataError(
            f"data.table is {options.table}, but {file.shown} holds only one table ({name.replace('_', ' ')}).",
            f"Expected data.table only for files of these formats: {_taking('table')}.",
            "Set data.table to null.",
        )


def _taking(option: str) -> str:
    """Return the groups of formats to which an option applies."""
    return ", ".join(dict.fromkeys(known.group for known in FORMATS.values() if option in known.takes))
