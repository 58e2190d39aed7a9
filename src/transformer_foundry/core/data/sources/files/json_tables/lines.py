"""JSON lines as a table: one object, or one text, on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.limits import FEW_CHARACTERS, MOST_OBJECTS, has_many_objects
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.decoding import read_lines
from transformer_foundry.core.data.sources.files.kind import DataFile

__all__ = ["JsonLines", "explain_json_error", "is_id_list"]

_SHOWN = 40
_CHECKED_ROWS = 100  # whose names are compared: a slower way to parse


class JsonLines:
    """The rows of a file with one JSON object, or one text, on each line."""

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        self._file = file
        self._columns = options.columns
        self._holds_ids = options.vocab_size is not None
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield one row for each line that is not blank.

        Raises:
            DataError: If a line is no JSON object.
        """
        loads, are_texts = json.loads, False
        for count, (number, line) in enumerate(self._lines()):
            if len(line) > FEW_CHARACTERS and has_many_objects(line):
                raise self._line_error(number, f"it has more than {MOST_OBJECTS:,} objects and lists.")
            try:
                row = loads(line) if count >= _CHECKED_ROWS else loads(line, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as err:
                raise self._line_error(number, f"not JSON: {explain_json_error(err)}.") from err
            is_text = type(row) is str
            if not count:
                are_texts = is_text
            if is_text != are_texts:
                expected = "not an object in braces" if is_text else "not a text, as the first line"
                raise self._line_error(number, f"{expected}, but {line.strip()[:_SHOWN]}")
            if type(row) is not dict:
                row = self._row_of(row, number, line)
            if "\\ud" in line:
                self._check_surrogates(row, number)
            yield row

    def line_of(self, number: int) -> int:
        """Return the line of row ``number`` (from 0)."""
        return next(line for place, (line, _) in enumerate(self._lines()) if place == number)

    def _lines(self) -> Iterator[tuple[int, str]]:
        kind = self._file.kind
        lines = read_lines(self._file.path, kind.compression, kind.encoding or "utf-8", self._file.shown)
        return ((number, line) for number, line in enumerate(lines, start=1) if not line.isspace())

    def _row_of(self, value: Any, number: int, line: str) -> Mapping[str, Any]:
        if isinstance(value, list) and self._columns is not None and len(value) == len(self._columns):
            return dict(zip(self._columns, value, strict=True))
        if self._holds_ids and is_id_list(value):
            return {"input_ids": value}
        if isinstance(value, str) and not value.lstrip().startswith("{"):  # an object that was written twice
            return {"text": value}
        raise self._line_error(number, f"not an object in braces, but {line.strip()[:_SHOWN]}")

    def _check_surrogates(self, row: Any, number: int) -> None:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as err:
            half = ord(err.object[err.start])
            text = f"an incomplete surrogate pair: \\u{half:x} without its other half."
            raise self._line_error(number, text) from err

    def _line_error(self, number: int, problem: str) -> DataError:
        return DataError(
            f"{self._file.shown}, line {number}: {problem}",
            "Expected one JSON object per line.",
            "Write the file again with json.dumps." if "single quotes" in problem else "Correct the line.",
        )


def is_id_list(value: Any) -> bool:
    """Return whether a value is a list of whole numbers, as token ids are."""
    return isinstance(value, list) and all(type(item) is int for item in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; refuse one that has a name twice, of which only the last value would be read."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def explain_json_error(err: Exception) -> str:
    """Return in words why a text is no JSON."""
    if isinstance(err, json.JSONDecodeError):
        if err.msg.startswith("Expecting property name") and err.doc[err.pos : err.pos + 1] == "'":
            return "names in single quotes, as Python writes them"
        if err.msg == "Extra data":
            return f"after the first value stands {err.doc[err.pos : err.pos + 12].strip()!r} (character {err.colno})"
        return f"{err.msg.removesuffix(' starting at').removesuffix(' at')} (character {err.colno})"
    return "Nested too deep" if isinstance(err, RecursionError) else str(err)
