"""What quotes mean in a table of separated fields, decided by reading the whole file; and its records under a reading.

Quotes are quotes only if under this reading every record has as many fields as the header; else they are text. The
records are counted by an own reading of the lines, independent of the parser.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.limits import LONGEST_LINE, MOST_COLUMNS
from transformer_foundry.core.data.sources.files.decoding import open_bytes, read_lines
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated.header import is_numbered_row
from transformer_foundry.core.data.sources.files.separated.separators import DECLARED, count_preamble, split_plain

__all__ = ["Reading", "RecordReader", "fits_width", "ragged_error"]

_ONE_PAIR = 2  # quotes: nothing else shows whether they are around a cell or part of two texts
_MOST_COMMENTS = 100
_MOST_SPACED = 0.5  # share of the rows
_CHUNK_BYTES = 2**20
_SPACED = re.compile(r' +".*"?', re.DOTALL)
_ESCAPED, _STAND_IN = '\\"', "\ue0ff"  # a backslash before a quote, as MySQL and Spark write it


@dataclass(frozen=True)
class Reading:
    """One way to read the records.

    Attributes:
        quotes: "text", "doubled" (the usual quoting), "escaped" (by a backslash), or "spaced" (with blanks before).
        skip: Lines before the header: comments, and the declaration of the separator.
        rows: Records counted in the whole file, header included; None if they are counted while reading.
    """

    quotes: str
    skip: int
    rows: int | None = None


@dataclass
class _Trial:
    """What a reading of the whole file has found.

    Attributes:
        reading: The reading.
        fits: Whether all records have the width of the first.
        width: Fields of the first record.
        rows: Records read.
        spans: The line where the first record of several lines begins, counted after the skipped ones; 0 if none.
        quotes: Quotes in the file (only counted where they are text).
        wrapped: Cells that begin and end with a quote.
        stray: Cells with quotes elsewhere.
        error: The first record that does not fit.
    """

    reading: Reading
    fits: bool = False
    width: int = 0
    rows: int = 0
    spans: int = 0
    quotes: int = 0
    wrapped: int = 0
    stray: int = 0
    error: DataError | None = None

    def count_quotes(self, row: list[str]) -> None:
        for cell in row:
            found = cell.count('"')
            if found:
                self.quotes += found
                is_wrapped = found > 1 and cell[0] == cell[-1] == '"'
                self.wrapped += is_wrapped
                self.stray += not is_wrapped


class RecordReader:
    """The records of one file of separated fields.

    Args:
        file: The file.
    """

    def __init__(self, file: DataFile) -> None:
        assert file.kind.separator is not None
        self._file = file
        self._separator = file.kind.separator
        self.notes: list[str] = []

    def choose_reading(self) -> Reading:
        """Choose what quotes mean, by reading the whole file if it contains any."""
        skip = self._lines_before_header()
        if len(self._separator) > 1 or not self._contains(b'"'):
            return Reading("text", skip)
        quoted = self._try(Reading("doubled", skip))
        if self._contains(f'{self._separator} "'.encode()) and (not quoted.fits or self._has_spaced_quotes(quoted)):
            spaced = self._try(Reading("spaced", skip))
            quoted = spaced if spaced.fits else quoted
        if not quoted.fits and self._contains(_ESCAPED.encode()):
            escaped = self._try(Reading("escaped", skip))
            quoted = escaped if escaped.fits else quoted
        plain = self._try(Reading("text", skip))
        if quoted.fits and not (quoted.spans and plain.fits and (quoted.width > 1 or plain.quotes == _ONE_PAIR)):
            return dataclasses.replace(quoted.reading, rows=quoted.rows)
        if quoted.fits:
            raise DataError(
                f"{self._file.shown}, line {skip + quoted.spans}: a quote begins here and ends in a later line, but"
                " each line by itself has all fields too.",
                "Expected quotes that are either around whole fields or part of the text.",
                "Write these quotes twice inside a quoted field, remove them, or write the table as jsonl.",
            )
        if plain.fits and plain.wrapped <= plain.stray:
            why = str(quoted.error.problem).removeprefix(f"{self._file.shown}, ") if quoted.error else "they do not fit"
            self.notes.append(f"The quotes in {self._file.shown} are read as text: {why}")
            return dataclasses.replace(plain.reading, rows=plain.rows)
        raise quoted.error or plain.error or DataError(f"{self._file.shown} cannot be read as a table.")

    def _has_spaced_quotes(self, trial: _Trial) -> bool:
        """Return whether most of the first records below the header have blanks before quotes, in one column."""
        rows = [row for _, row in itertools.islice(self.records(trial.reading), 1, _MOST_COMMENTS)]
        found = Counter(place for row in rows for place, cell in enumerate(row) if place and _SPACED.fullmatch(cell))
        return any(count > _MOST_SPACED * len(rows) for count in found.values())

    def _try(self, reading: Reading) -> _Trial:
        """Read the whole file in one way, and return whether all records have the width of the first."""
        trial, counter, surplus, number = _Trial(reading), _RecordCounter(self._separator), 0, -1
        header: list[str] = []
        is_text = reading.quotes == "text"
        try:
            for line, row in self.records(reading, None if is_text else counter):
                trial.rows += 1
                header = header or row
                trial.width = len(header)
                if not is_text:
                    trial.spans = trial.spans or counter.first_span
                else:
                    trial.count_quotes(row)
                if trial.rows == surplus + 2 and is_numbered_row(row, header, number):
                    surplus, number = surplus + 1, int(row[0])  # so far, each row has its number before its fields
                elif not fits_width(row, trial.width):
                    trial.error = ragged_error(self._file, line, row, trial.width)
                    return trial
        except _QuoteError as err:
            trial.error = err.explained(self._file.shown)
            return trial
        is_counted = reading.quotes in ("text", "spaced") or counter.records == trial.rows
        trial.fits = surplus in (0, trial.rows - 1) and is_counted
        return trial

    def records(self, reading: Reading, counter: _RecordCounter | None = None) -> Iterator[tuple[int, list[str]]]:
        """Yield the line where a record begins, and its fields; blank lines are no records."""
        kind = self._file.kind
        lines = read_lines(self._file.path, kind.compression, kind.encoding or "utf-8", self._file.shown)
        lines = itertools.islice(lines, reading.skip, None)
        if reading.quotes == "text":
            for number, line in enumerate(lines, start=reading.skip + 1):
                if line.strip("\r\n"):
                    if len(line) > MOST_COLUMNS and line.count(self._separator) >= MOST_COLUMNS:
                        raise self._width_error(number, line.count(self._separator) + 1)
                    yield number, split_plain(line, self._separator)
            return
        escaped = reading.quotes == "escaped"
        if escaped:
            lines = (line.replace(_ESCAPED, _STAND_IN) for line in lines)
        if counter is not None:
            lines = counter.watch(lines)
        is_spaced = reading.quotes == "spaced"
        bounded = _BoundedRecords(lines)
        reader = csv.reader(bounded, delimiter=self._separator, strict=True, skipinitialspace=is_spaced)
        begins = reading.skip + 1
        try:
            for row in reader:
                bounded.left = LONGEST_LINE
                if len(row) > MOST_COLUMNS:
                    raise self._width_error(begins, len(row))
                if row:
                    yield begins, [cell.replace(_STAND_IN, '"') for cell in row] if escaped else row
                begins = reading.skip + reader.line_num + 1
        except csv.Error as err:
            raise _QuoteError(begins, reading.skip + reader.line_num, str(err)) from err

    def _width_error(self, line: int, width: int) -> DataError:
        return DataError(
            f"{self._file.shown}, line {line}: it has {width:,} columns.",
            f"Expected at most {MOST_COLUMNS:,}.",
            "Keep the columns of text and labels only; data.document=line reads the file as plain text.",
        )

    def _lines_before_header(self) -> int:
        """Return the number of first lines that declare the separator, or are comments of another form than rows."""
        kind = self._file.kind
        lines = read_lines(self._file.path, kind.compression, kind.encoding or "utf-8", self._file.shown)
        first = list(itertools.islice(lines, _MOST_COMMENTS))
        skip = int(bool(first) and DECLARED.fullmatch(first[0]) is not None)
        titles = count_preamble(first[skip:], self._separator)
        if titles and not first[skip].startswith("#"):
            self.notes.append(f"{counted(titles, 'line')} before the header of {self._file.shown}: not read.")
        return skip + titles

    @functools.cached_property
    def _is_wide(self) -> bool:
        return (self._file.kind.encoding or "utf-8").startswith(("utf-16", "utf-32"))

    def has_cell(self, reading: Reading, text: str) -> bool:
        """Return whether a cell of the file holds exactly ``text``."""
        return self._contains(text.encode()) and any(text in row for _, row in self.records(reading))

    def _contains(self, mark: bytes) -> bool:
        """Return whether the file contains ``mark``; text of two bytes a character is always read."""
        if self._is_wide:
            return True
        with open_bytes(self._file.path, self._file.kind.compression) as file:
            rest = b""
            while chunk := file.read(_CHUNK_BYTES):
                if mark in rest + chunk:
                    return True
                rest = chunk[-len(mark) :]
        return False


class _BoundedRecords:
    """Lines for the parser, which keeps a record of several lines in memory; whoever reads it sets ``left`` again."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.left = LONGEST_LINE

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.left -= len(line)
            if self.left < 0:
                raise csv.Error("field larger than field limit")
            yield line


class _RecordCounter:
    """Counts records from the lines alone, independent of the parser: a line ends a record outside quotes."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self.records = 0
        self.first_span = 0  # the line where the first record begins that has several lines

    def watch(self, lines: Iterator[str]) -> Iterator[str]:
        inside = False
        for number, line in enumerate(lines, start=1):
            was_inside = inside
            if inside or '"' in line:
                inside = self._is_open_after(line, inside=inside)
                if inside:
                    self.first_span = self.first_span or number
            if not inside and (was_inside or line.strip("\r\n")):
                self.records += 1
            yield line

    def _is_open_after(self, line: str, *, inside: bool) -> bool:
        text, place = line.rstrip("\r\n"), 0
        while True:
            if inside:
                place = text.find('"', place)
                if place < 0:
                    return True
                if text.startswith('""', place):
                    place += 2
                    continue
                inside, place = False, place + 1
            elif place == 0 and text.startswith('"'):
                inside, place = True, 1
            else:
                place = text.find(f'{self._separator}"', place)
                if place < 0:
                    return False
                inside, place = True, place + len(self._separator) + 1


class _QuoteError(Exception):
    """The parser found quotes that do not fit together."""

    def __init__(self, begins: int, line: int, text: str) -> None:
        super().__init__(text)
        self.begins, self.line, self.text = begins, line, text

    def explained(self, shown: str) -> DataError:
        if "unexpected end" in self.text or "field larger" in self.text:
            problem = f"{shown}, line {self.begins}: a quote is opened that is never closed."
        elif self.begins < self.line:
            problem = f"{shown}, line {self.begins}: a quote is opened that is not closed before line {self.line}."
        else:
            problem = f"{shown}, line {self.line}: a quote inside a quoted field is not written twice."
        return DataError(
            problem,
            "Expected quotes in pairs, or as many fields in each line as in the header.",
            'Close the quote; a quote inside a quoted field is written twice: "".',
        )


def ragged_error(file: DataFile, line: int, row: list[str], width: int) -> DataError:
    """Return the error of a record with another number of fields than the header."""
    separator = file.kind.separator or ","
    text = separator.join(row)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return DataError(
        f"{file.shown}, line {line}: Expected {width} fields, saw {len(row)}: {text!r}.",
        "Expected as many fields in each line as in the first.",
        f"Correct the line; quote fields that contain {separator!r}. data.document=line reads the file as plain text.",
    )


def fits_width(row: list[str], width: int) -> bool:
    """Return whether a record has ``width`` fields, empty ones at its end not counted; or is a line of blanks."""
    if len(row) == width:
        return True
    if len(row) > width > 1:
        return not any(cell.strip() for cell in row[width:])
    return width > 1 and len(row) == 1 and not row[0].strip()
