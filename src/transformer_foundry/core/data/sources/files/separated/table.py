"""Tables of separated fields (csv, tsv, semicolons, bars): every record of the file is a row, or an error."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted, short_list
from transformer_foundry.core.data.limits import LONGEST_LINE
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated.cells import converters
from transformer_foundry.core.data.sources.files.separated.header import (
    are_row_names,
    clean_names,
    default_names,
    find_index_columns,
    find_second_table,
    is_guessed,
    is_header,
    is_numbered_row,
)
from transformer_foundry.core.data.sources.files.separated.quoting import RecordReader, fits_width, ragged_error

__all__ = ["DelimitedTable"]

_SAMPLE_ROWS, _SAMPLE_CELLS = 1000, 2**20
_NULL = "\\N"  # a missing value, as MySQL and PostgreSQL write it
_ESCAPE = re.compile(r"\\([ntr0\\])")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "", "\\": "\\"}
_DESCRIPTION = '{"ImportId"'
_SELDOM = 0.5  # share of the rows


class DelimitedTable:
    """The rows of one file of separated fields.

    Args:
        file: The file.
        options: May say whether there is a header, and the names of the columns.

    Raises:
        DataError: If a record has another number of fields than the header, with its line.
    """

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        csv.field_size_limit(LONGEST_LINE)
        self._file = file
        self._reader = RecordReader(file)
        self._reading = self._reader.choose_reading()
        self.notes = list(self._reader.notes)
        self.warnings: list[str] = []
        self._is_dump = self._reader.has_cell(self._reading, _NULL)
        sample, lines, cells = [], [], 0
        for line, row in itertools.islice(self._records(), _SAMPLE_ROWS):
            sample.append(row)
            lines.append(line)
            cells += len(row)
            if cells > _SAMPLE_CELLS:
                break
        if not sample:
            raise DataError(f"{file.shown} has no rows.", "Expected rows of data.", "Check data.source.")
        self._described = 0 if options.header is False else _count_descriptions(sample)
        del sample[1 : 1 + self._described], lines[1 : 1 + self._described]
        self._name_columns(sample, options)
        if self._described:
            rows = counted(self._described, "row")
            self.notes.append(f"{rows} below the header of {file.shown}, in which Qualtrics describes it: not read.")
        second = find_second_table(sample, lines) if self.has_header else None
        if second is not None:
            at, names = second
            self.warnings.append(
                f"{file.shown}, line {at}: after a blank line another table seems to begin ({short_list(names)}), whose"
                " rows are read like the others: move it to a file of its own."
            )
        if self._is_dump:
            escapes = ", and escapes are line breaks and tabs" if self._reading.quotes == "text" else ""
            self.notes.append(f"{_NULL} in {file.shown} is a missing value, as databases write it{escapes}.")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows.

        Raises:
            DataError: If a record has another number of fields than the others, with its line.
        """
        names, kept, convert = self.names, self._kept, list(self._convert.items())
        width, count, header = self._width, 0, None
        plain = len(kept) == len(names) == width and not convert
        for line, row in self._records():
            count += 1
            if count <= 1 + self._described and self.has_header:
                header = header or row
                continue
            if row == header and width > 1:  # a single word may occur again
                raise DataError(
                    f"{self._file.shown}, line {line}: it repeats the header ({short_list(row)}).",
                    "Expected one header, in the first line; several files may have been joined.",
                    "Remove the line.",
                )
            if len(row) != width:
                if not fits_width(row, width):
                    raise ragged_error(self._file, line, row, width)
                if len(row) < width:
                    continue  # a line of blanks
                row = row[:width]
            if plain:
                yield dict(zip(names, row, strict=True))
                continue
            cells: list[Any] = row
            for place, function in convert:
                cells[place] = function(row[place])
            yield dict(zip(names, [cells[place] for place in kept], strict=True))
        if self._reading.rows is not None and count != self._reading.rows:
            raise DataError(
                f"{self._file.shown} has {self._reading.rows} records, but {count} were read.",
                "Expected as many rows as records.",
                "Check the quotes of the file, or write it as jsonl.",
            )

    def line_of(self, number: int) -> int:
        """Return the line where row ``number`` (from 0) begins."""
        records = self._records()
        return next(itertools.islice(records, number + self._described + int(self.has_header), None))[0]

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        records = self._reader.records(self._reading)
        if not self._is_dump:
            return records
        has_escapes = self._reading.quotes == "text"
        return ((line, [_from_dump(cell, has_escapes=has_escapes) for cell in row]) for line, row in records)

    def _warn_of_unnamed(self, unnamed: dict[int, str]) -> None:
        """Add a warning for a column without a name that few rows fill: mostly the rest of a text."""
        counts, first, total = Counter[int](), dict[int, tuple[int, str]](), 0
        for line, row in self._records():
            total += 1
            for place in unnamed:
                if len(row) > place and row[place].strip():
                    counts[place] += 1
                    first.setdefault(place, (line, row[place].strip()[:40]))
        for place, count in counts.items():
            if count < _SELDOM * total:
                line, text = first[place]
                self.warnings.append(
                    f"{counted(count, 'row')} of {self._file.shown} {'have' if count > 1 else 'has'} text in a column"
                    f" without a name ({unnamed[place]}; line {line}: {text!r}), mostly the rest of a text with a"
                    " separator: it is not read; quote such texts, or name the column."
                )

    def _name_columns(self, sample: list[list[str]], options: DataOptions) -> None:
        """Set the header, the names, the columns to keep and their types from the first records."""
        first, others = sample[0], sample[1:]
        width = len(first)
        fitting = [row[:width] for row in others if len(row) == width or not any(row[width:])]
        fitting = [row for row in fitting if len(row) == width]
        shifted = bool(others) and all(len(row) == width + 1 for row in others) and all(row[-1] for row in others)
        numbers = [-1, *(int(row[0]) for row in others if shifted and row[0].isdecimal())]
        is_numbered = shifted and all(
            len(numbers) > place and is_numbered_row(row, first, numbers[place]) for place, row in enumerate(others)
        )
        is_numbered = is_numbered and are_row_names(
            numbers[1:], str(self._file.kind.separator), has_quotes=self._reading.quotes != "text"
        )
        evidence = "data.header sets it"
        self.has_header = bool(options.header)
        if options.header is None:
            self.has_header, evidence = (True, "") if is_numbered else is_header(first, fitting)
        if is_numbered and self.has_header:  # R writes no name over the column of the row names
            first, width, fitting = ["", *first], width + 1, others
            self.notes.append(
                f"The numbers before the columns of {self._file.shown} name its rows, as R writes them:"
                " they are not read."
            )
        self._width = width
        rows = fitting if self.has_header else [sample[0], *fitting]
        names = list(first) if self.has_header else default_names(width)
        dropped = find_index_columns(names, rows) if self.has_header else []
        if is_numbered and self.has_header and 0 not in dropped:
            dropped = [0, *dropped]
        if options.columns is not None:
            names = self._given_names(options.columns, width, dropped)
        unnamed = [place for place, name in enumerate(names) if not name.strip() and place not in dropped]
        names, notes = clean_names(names)
        self._kept = [place for place in range(width) if place not in dropped]
        self.names = [names[place] for place in self._kept]
        self._convert = {place: how for place, how in converters(rows).items() if place in self._kept}
        self.notes += notes
        if unnamed:
            self._warn_of_unnamed({place: names[place] for place in unnamed})
        if not self.has_header:
            self.notes.append(
                f"{self._file.shown} has no header ({evidence}): its columns are {short_list(self.names)}."
            )
        elif is_guessed(evidence):
            self.notes.append(
                f"The first row of {self._file.shown} ({short_list(self.names)}) is taken for the header;"
                " if it is data, set data.header=false."
            )

    def _given_names(self, columns: list[str], width: int, dropped: list[int]) -> list[str]:
        if len(columns) == width - len(dropped) != width:
            given = iter(columns)
            return [f"index_{place}" if place in dropped else next(given) for place in range(width)]
        if len(columns) != width:
            raise DataError(
                f"data.columns has {len(columns)} names, but {self._file.shown} has {counted(width, 'column')}.",
                f"Expected {width} names, one for each column.",
                "Correct data.columns, or set it to null.",
            )
        return list(columns)


def _count_descriptions(sample: list[list[str]]) -> int:
    """Return how many rows below the header describe the columns: to one with ids in JSON, as Qualtrics exports it."""
    for count, row in enumerate(sample[1:3], start=1):
        filled = [cell for cell in row if cell.strip()]
        if filled and all(cell.lstrip().startswith(_DESCRIPTION) for cell in filled):
            return count
    return 0


def _from_dump(cell: str, *, has_escapes: bool) -> str:
    """Return a cell of a dump of a database: a missing value is empty."""
    if cell == _NULL or not has_escapes or "\\" not in cell:
        return "" if cell == _NULL else cell
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], cell)
