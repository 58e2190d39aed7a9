"""A sheet of an xlsx file as rows: an own reader, so that a spreadsheet needs no further package."""

from __future__ import annotations

import datetime
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import counted, short_list
from transformer_foundry.core.data.limits import LONGEST_LINE
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated.header import (
    clean_names,
    default_names,
    find_index_columns,
    find_second_table,
    is_header,
)
from transformer_foundry.core.data.sources.files.separated.separators import count_title_rows
from transformer_foundry.core.data.sources.files.stored.sheet_gaps import (
    MOST_ROWS,
    Gaps,
    column_number,
    describe_gap,
    find_merges,
    gap_in,
)
from transformer_foundry.core.data.sources.files.stored.workbook import (
    MOST_TAGS,
    Workbook,
    read_workbook,
    shared_strings,
    special_styles,
    tag,
    text_of,
    unescape,
)
from transformer_foundry.core.files.bounded_zip import BoundedReader, open_zip

__all__ = ["SpreadsheetTable", "visible_sheets"]

_SAMPLE_ROWS = 200
_MOST_TITLES = 10  # rows of another sheet in which its header is looked for
_MOST_MEMBERS = 10_000
_UNREADABLE = (
    LookupError, ElementTree.ParseError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError,
    OverflowError,
)  # fmt: skip
_REFERENCE = re.compile(r"([A-Z]+)(\d+)")


class SpreadsheetTable:
    """The rows of one sheet.

    Args:
        file: The file.
        options: ``table`` names the sheet; else the first that is not hidden is read. ``header`` and ``columns`` as in
            csv.

    Raises:
        DataError: If the file is damaged, has no such sheet, or no rows.
    """

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        self._file = file
        self.notes: list[str] = []
        try:
            with open_zip(file.path, _MOST_MEMBERS) as archive:
                book = read_workbook(archive)
                self._strings = shared_strings(archive)
                self._date_styles, self._padded_styles = special_styles(archive)
        except _UNREADABLE as err:
            raise self._error(err) from err
        self._day_zero = book.day_zero
        name = options.table or book.first
        self._sheet, self.sheet = self._member(book.sheets, name), name
        self.shown = f"{file.shown}, sheet {name}"
        others = [other for other in book.sheets if other != name]
        self._unread = [] if options.table else others
        if self._unread:
            shown = [f"{sheet} (hidden)" if sheet in book.hidden else sheet for sheet in book.sheets]
            self.notes.append(
                f"{file.shown} has the sheets {short_list(shown)}; {name} is read; data.table reads another."
            )
        rows = list(itertools.islice(self._rows(), _SAMPLE_ROWS))
        if not rows:
            raise DataError(
                f"{self.shown} has no rows.",
                "Expected rows of data.",
                f"Set data.table to another sheet: {short_list(others)}." if others else "Check data.source.",
            )
        self._name_columns(rows, options)
        self._gaps = self._find_gaps()
        self.warnings = [*self._gaps, *self._find_second_table(rows), *self._find_alike(book)]

    @property
    def hint(self) -> str:
        """What may explain that the rows cannot be used, in sentences: another sheet was meant, cells are empty."""
        other = f"Sheet {self.sheet} was read; data.table reads another: {short_list(self._unread)}."
        return " ".join([*([other] if self._unread else []), *self._gaps[:1]])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows.

        Raises:
            DataError: If a row has cells beyond the columns of the header.
        """
        for line, row in itertools.islice(self._rows(), self._skipped, None):
            if any(cell is not None for cell in row[self._width :]):
                raise DataError(
                    f"{self.shown}, row {line}: it has {len(row)} cells, but {self._first} only {self._width}.",
                    "Expected no cells beyond the columns of the header.",
                    "Remove rows above the header and cells beside the table, or name the columns in the header.",
                )
            cells = row + [None] * (self._width - len(row))
            yield {name: cells[place] for name, place in zip(self.names, self._kept, strict=True)}

    def line_of(self, number: int) -> int:
        """Return the row of the sheet that holds row ``number`` (from 0) of the data."""
        return next(itertools.islice(self._rows(), number + self._skipped, None))[0]

    def place_of(self, number: int) -> str:
        """Return sheet and row of row ``number`` (from 0) of the data, and why cells of it look filled but are not."""
        line = self.line_of(number)
        row = next(element for place, element in self._elements() if place == line)
        gaps = [describe_gap(line, *gap) for gap in self._gaps_of(line, row)]
        return f"{self.shown}, row {line}" + (f" ({short_list(gaps)})" if gaps else "")

    def _find_alike(self, book: Workbook) -> list[str]:
        """Return a warning if other sheets that are not hidden have the same columns: they may be parts of the data."""
        alike = []
        for name in self._unread if self.has_header else ():
            rows = itertools.islice(self._rows(book.sheets[name]), _MOST_TITLES)
            if name not in book.hidden and any([cell for cell in row if cell] == self.names for _, row in rows):
                alike.append(name)
        if not alike:
            return []
        are = "has the same columns and is" if len(alike) == 1 else "have the same columns and are"
        return [
            f"Of {self._file.shown}, only sheet {self.sheet} is read; {short_list(alike, 5)} {are} not: join the sheets"
            " if they are parts of the data, or set data.table."
        ]

    def _find_second_table(self, numbered: list[tuple[int, list[Any]]]) -> list[str]:
        """Return a warning if a second table stands below the first, after a blank row."""
        kept = [(line, _as_text(row, self._width)) for line, row in numbered if line >= self._start]
        found = find_second_table([row for _, row in kept], [line for line, _ in kept]) if self.has_header else None
        if found is None:
            return []
        line, names = found
        return [
            f"{self.shown}, row {line}: after a blank row another table seems to begin ({short_list(names)}), whose"
            " rows are read like the others: move it to a sheet of its own."
        ]

    def _find_gaps(self) -> list[str]:
        """Return warnings for cells below the header that look filled but hold no value."""
        try:
            with open_zip(self._file.path, _MOST_MEMBERS) as archive, archive.open(self._sheet) as file:
                self._merges, has_suspects, hidden = find_merges(file, after=self._start)
        except _UNREADABLE as err:
            raise self._error(err) from err
        if hidden:
            verb = "is" if hidden == 1 else "are"
            self.notes.append(f"{counted(hidden, 'row')} of {self.shown} {verb} hidden, as by a filter, and read too.")
        if not has_suspects and not self._merges:
            return []
        gaps = Gaps()
        for line, row in self._elements():
            for gap in self._gaps_of(line, row) if line > self._start else ():
                gaps.add(line, *gap)
        return gaps.warnings(dict(zip(self._kept, self.names, strict=True)), self.shown)

    def _gaps_of(self, line: int, row: ElementTree.Element) -> Iterator[tuple[int, str, str]]:
        """Yield column, kind and content of the gaps in a row."""
        cells = dict(_placed(row))
        for column in sorted({*cells, *self._merges}):
            kind, content = gap_in(cells.get(column), line, column, self._merges)
            if kind and column < self._width:
                yield column, kind, content

    def _name_columns(self, numbered: list[tuple[int, list[Any]]], options: DataOptions) -> None:
        titles = 0
        if options.header is not False:
            widest = max(len(row) for _, row in numbered)
            titles = count_title_rows([_as_text(row, widest) for _, row in numbered])
        if titles:
            self.notes.append(f"{counted(titles, 'row')} before the header of {self.shown}: not read.")
        lines, rows = zip(*numbered[titles:], strict=True)
        first, others = rows[0], rows[1:]
        self._width = max(map(len, rows)) if options.header is False else len(first)
        padded = [_as_text(row, self._width) for row in rows]
        self.has_header, evidence = bool(options.header), "data.header sets it"
        if options.header is None:
            self.has_header, evidence = is_header(padded[0], padded[1:])
        names = padded[0] if self.has_header else default_names(self._width)
        self._skipped = titles + int(self.has_header)
        self._start = lines[0] if self.has_header else 0
        self._first = (
            f"row {lines[0]}, taken for the header ({short_list(names)})," if self.has_header else "the first rows"
        )
        dropped = find_index_columns(names, padded[1:]) if self.has_header and others else []
        if options.columns is not None:
            if len(options.columns) != self._width:
                raise DataError(
                    f"data.columns has {len(options.columns)} names, but {self.shown} has"
                    f" {counted(self._width, 'column')}.",
                    f"Expected {self._width} names, one for each column.",
                    "Correct data.columns, or set it to null.",
                )
            names = list(options.columns)
        names, notes = clean_names(names)
        self.notes += notes
        self._kept = [place for place in range(self._width) if place not in dropped]
        self.names = [names[place] for place in self._kept]
        if not self.has_header:
            self.notes.append(f"{self.shown} has no header ({evidence}): its columns are {short_list(self.names)}.")

    def _rows(self, sheet: str = "") -> Iterator[tuple[int, list[Any]]]:
        """Yield number and cells of the rows that have any, of this sheet or of another member of the file."""
        for number, element in self._elements(sheet):
            row = self._cells(element)
            if any(cell not in (None, "") for cell in row):
                yield number, row

    def _elements(self, sheet: str = "") -> Iterator[tuple[int, ElementTree.Element]]:
        """Yield the rows of the sheet with their numbers, each valid until the next."""
        number = count = 0
        try:
            with open_zip(self._file.path, _MOST_MEMBERS) as archive, archive.open(sheet or self._sheet) as file:
                source = BoundedReader(file, LONGEST_LINE, MOST_TAGS)
                for _, element in ElementTree.iterparse(source, events=("end",)):
                    if tag(element) != "row":
                        continue
                    source.restart()
                    number = int(element.get("r") or number + 1)
                    count += 1
                    if count > MOST_ROWS:
                        raise ValueError(f"a sheet has more than {MOST_ROWS:,} rows")
                    yield number, element
                    element.clear()
        except _UNREADABLE as err:
            raise self._error(err) from err

    def _cells(self, row: ElementTree.Element) -> list[Any]:
        cells: list[Any] = []
        try:
            for place, cell in _placed(row):
                cells += [None] * (place + 1 - len(cells))
                cells[place] = self._value(cell)
        except _UNREADABLE as err:
            raise self._error(err) from err
        while cells and cells[-1] is None:
            cells.pop()
        return cells

    def _value(self, cell: ElementTree.Element) -> Any:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return text_of(cell)
        value = next((child.text for child in cell if tag(child) == "v"), None)
        if value is None:
            return None
        if kind == "s":
            return self._strings[int(value)]
        if kind == "b":
            return value == "1"
        if kind == "e":
            return None  # an error such as #N/A
        if kind in ("str", "d"):
            return unescape(value)
        number = float(value)
        if int(cell.get("s", "0")) in self._date_styles:
            return _date(number, self._day_zero)
        if not number.is_integer() or abs(number) >= 2**53:
            return number
        digits = self._padded_styles.get(int(cell.get("s", "0")))
        return int(number) if digits is None else f"{int(number):0{digits}d}"

    def _member(self, sheets: dict[str, str], name: str) -> str:
        if name not in sheets:
            raise DataError(
                f"{self._file.shown} has no sheet {name} (data.table).{suggestion(name, sheets)}",
                f"Its sheets: {short_list(list(sheets))}.",
                "Set data.table to one of them.",
            )
        return sheets[name]

    def _error(self, err: BaseException) -> DataError:
        return DataError(
            f"{self._file.shown} cannot be read as a spreadsheet: {err}.",
            "Expected a complete xlsx file.",
            "Save the table again as .xlsx or .csv.",
        )


def visible_sheets(file: DataFile) -> list[str]:
    """Return the names of the sheets of a file that are not hidden; none if it cannot be read."""
    try:
        with open_zip(file.path, _MOST_MEMBERS) as archive:
            book = read_workbook(archive)
    except _UNREADABLE:
        return []
    return [name for name in book.sheets if name not in book.hidden]


def _placed(row: ElementTree.Element) -> Iterator[tuple[int, ElementTree.Element]]:
    """Yield the cells of a row with their columns, from 0."""
    place = -1
    for cell in row:
        if tag(cell) == "c":
            match = _REFERENCE.fullmatch(cell.get("r", ""))
            place = column_number(match.group(1)) if match else place + 1
            yield place, cell


def _date(number: float, day_zero: datetime.datetime) -> str | float:
    try:
        moment = day_zero + datetime.timedelta(seconds=round(number * 86_400))
    except OverflowError:
        return number
    if number < 1:
        return moment.time().isoformat()
    return moment.date().isoformat() if number.is_integer() else moment.isoformat(sep=" ")


def _as_text(row: list[Any], width: int) -> list[str]:
    return ["" if cell is None else str(cell) for cell in (row + [None] * width)[:width]]
