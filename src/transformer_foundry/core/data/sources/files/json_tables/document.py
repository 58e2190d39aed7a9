"""A JSON document as a table: a list of records, or an object in one of the forms that pandas writes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.limits import LONGEST_LINE, MOST_OBJECTS, has_many_objects
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.decoding import encoding_error, open_text
from transformer_foundry.core.data.sources.files.json_tables.layouts import are_unnamed_texts, rows_of_object, to_row
from transformer_foundry.core.data.sources.files.json_tables.lines import explain_json_error, is_id_list
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated.header import UNSURE, clean_names, is_header

__all__ = ["JsonTable"]

_CHUNK = 2**20  # characters
_EXAMINED = 100  # records
_LARGEST_OBJECT = 256 * 2**20  # characters; an object can only be parsed as a whole
_MOST_OBJECTS = 2**22  # in one object: 64 to 232 bytes each
_JSON_NAMES = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}


class JsonTable:
    """The rows of a JSON document: a list of records is read record by record, an object as a whole."""

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        self._file = file
        self._columns = options.columns
        self._holds_ids = options.vocab_size is not None
        self.notes: list[str] = []
        self.hint = ""
        self._rows: list[Mapping[str, Any]] | None = None
        self._has_header = False
        if self._first_character() == "{":
            self._rows = self._read_object()
        else:
            self._find_header(options.header)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield the rows.

        Raises:
            DataError: If the document is no JSON, or an item is no record, with its line.
        """
        if self._rows is not None:
            yield from self._rows
            return
        first: type | None = None
        for number, value in enumerate(self._items(), start=1):
            if number == 1 and self._has_header:
                continue
            first = first or type(value)
            if type(value) is not first:
                raise DataError(
                    f"{self._file.shown}, record {number}: it is {_JSON_NAMES.get(type(value), 'a value')}, the first"
                    f" one is {_JSON_NAMES.get(first, 'a value')}.",
                    "Expected records of one form.",
                    "Correct the record.",
                )
            if self._holds_ids and is_id_list(value):
                yield {"input_ids": value}
                continue
            yield value if type(value) is dict else to_row(value, number, self._file.shown, self._columns)

    def _find_header(self, header: bool | None) -> None:
        """Take the first of several lists for the names of the columns if it is unlike the others."""
        first = list(itertools.islice(self._items(), _EXAMINED))
        if not first or not all(isinstance(item, list) and len(item) == len(first[0]) for item in first):
            return
        rows = [["" if cell is None else str(cell) for cell in item] for item in first]
        is_named = len(rows) > 1 and all(isinstance(cell, str) for cell in first[0])
        found, evidence = is_header(rows[0], rows[1:]) if is_named else (False, "")
        self._has_header = found and not evidence.startswith(UNSURE) if header is None else header
        if self._has_header:
            names, notes = clean_names(rows[0])
            self._columns = self._columns or names
            self.notes += [*notes, f"The first record of {self._file.shown} names the columns: {short_list(names)}."]

    def line_of(self, number: int) -> None:
        """Return None: a record may have several lines, or several records one."""
        del number

    def _text(self) -> Iterator[str]:
        kind = self._file.kind
        encoding = "utf-8-sig" if kind.encoding == "utf-8" else kind.encoding or "utf-8"
        try:
            with open_text(self._file.path, kind.compression, encoding) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except UnicodeDecodeError as err:
            raise encoding_error(self._file.path, kind.compression, encoding, self._file.shown) from err

    def _first_character(self) -> str:
        for chunk in self._text():
            if chunk.strip():
                return chunk.strip()[0]
        return ""

    def _items(self) -> Iterator[Any]:
        """Yield the items of the list at the top; only one item and one chunk are in memory."""
        chunks, decode = self._text(), json.JSONDecoder().raw_decode
        text, place, line = "", 0, 1
        opened = expects_item = has_items = False
        while True:
            place = _skip_blanks(text, place)
            if place == len(text):
                line += text.count("\n")
                text, place = next(chunks, ""), 0
                if not text:
                    raise self._error(line, "not JSON: the file ends before the list does.")
                continue
            if not opened or (not expects_item and text[place] == ","):
                if not opened and text[place] != "[":
                    raise self._error(line, "not JSON: expected a list.")
                opened, expects_item, place = True, True, place + 1
                continue
            if text[place] == "]":
                if expects_item and has_items:
                    problem = "not JSON: a comma stands before the last ]."
                    raise self._error(line + text.count("\n", 0, place), problem)
                self._check_end(text[place + 1 :], chunks, line + text.count("\n", 0, place))
                return
            if not expects_item:
                raise self._error(line + text.count("\n", 0, place), "not JSON: expected ',' between two records.")
            try:
                value, end = decode(text, place)
                if end == len(text) and (more := next(chunks, "")):  # a number may go on
                    line, text, place = line + text.count("\n", 0, place), text[place:] + more, 0
                    continue
            except (ValueError, RecursionError) as err:
                # As much again as there is, so that a long record is not parsed from its start for each chunk.
                count = max(1, (len(text) - place) // _CHUNK)
                more = "".join(itertools.islice(chunks, count)) if _may_be_cut(err, text) else ""
                if not more or len(text) - place > LONGEST_LINE:
                    raise self._parse_error(err, text, line) from err
                line, text, place = line + text.count("\n", 0, place), text[place:] + more, 0
                if count > 1 and has_many_objects(text):
                    raise self._error(line, f"a record has more than {MOST_OBJECTS:,} objects and lists.") from err
                continue
            place, expects_item, has_items = end, False, True
            yield value

    def _check_end(self, rest: str, chunks: Iterator[str], line: int) -> None:
        if rest.strip() or any(chunk.strip() for chunk in chunks):
            raise self._error(line, "not JSON: something follows the end of the list.")

    def _read_object(self) -> list[Mapping[str, Any]]:
        pieces: list[str] = []
        size = objects = 0
        for chunk in self._text():
            pieces.append(chunk)
            size += len(chunk)
            objects += chunk.count("{") + chunk.count("[")
            if objects > _MOST_OBJECTS:
                raise self._error(1, f"one JSON object with more than {_MOST_OBJECTS:,} objects and lists in it.")
            if size > _LARGEST_OBJECT:
                raise DataError(
                    f"{self._file.shown} is one JSON object of more than {_LARGEST_OBJECT / 1e6:.0f} MB, which must be"
                    " read as a whole.",
                    "Expected a list of records, or a .jsonl file with one object a line.",
                    f"Convert it: jq -c '.[]' {self._file.path.name} > {self._file.path.stem}.jsonl",
                )
        text = "".join(pieces)
        del pieces
        values, place, decode = [], _skip_blanks(text, 0), json.JSONDecoder().raw_decode
        while place < len(text):
            try:
                value, end = decode(text, place)
            except (ValueError, RecursionError) as err:
                raise self._parse_error(err, text, 1) from err
            values.append(value)
            place = _skip_blanks(text, end)
        if len(values) > 1:  # objects one after another, each over several lines
            return [to_row(value, number, self._file.shown, None) for number, value in enumerate(values, start=1)]
        rows, form = rows_of_object(values[0], self._file.shown)
        if isinstance(values[0], dict) and form == "a list for each column" and are_unnamed_texts(values[0]):
            self.hint = f"{self._file.shown} is read as {form}; if its keys are classes, write rows of text and label."
        if form:
            self.notes.append(f"{self._file.shown} is read as {form}.")
        return [to_row(row, number, self._file.shown, self._columns) for number, row in enumerate(rows, start=1)]

    def _parse_error(self, err: Exception, text: str, line: int) -> DataError:
        place = err.pos if isinstance(err, json.JSONDecodeError) else 0
        return self._error(line + text.count("\n", 0, place), f"not JSON: {explain_json_error(err)}.")

    def _error(self, line: int, problem: str) -> DataError:
        return DataError(f"{self._file.shown}, line {line}: {problem}", "Expected a list of objects.", "Correct it.")


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n\ufeff":
        place += 1
    return place


def _may_be_cut(err: Exception, text: str) -> bool:
    if not isinstance(err, json.JSONDecodeError):
        return False
    return err.msg.startswith(("Unterminated string", "Invalid \\")) or err.pos >= len(text) - 16
