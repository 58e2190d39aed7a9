"""Cells of a sheet that look filled but hold no value: errors, formulas without a result, parts of merged cells."""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping
from typing import IO
from xml.etree import ElementTree

from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.limits import LONGEST_LINE, MOST_COLUMNS
from transformer_foundry.core.data.sources.files.stored.workbook import MOST_TAGS, tag
from transformer_foundry.core.files.bounded_zip import BoundedReader

__all__ = ["MOST_ROWS", "Gaps", "Merges", "column_number", "describe_gap", "find_merges", "gap_in"]

MOST_ROWS = 2**20
"""Largest number of rows of a sheet, as in Excel."""
_CHUNK_BYTES = 2**20
_LONGEST_TAG = 512
_MERGED = re.compile(rb"""<(?:\w+:)?mergeCell\s[^<>]*?ref=["']([A-Z]+)(\d+):([A-Z]+)(\d+)["']""")
_SUSPECT = re.compile(rb"""\st=["']e["']|<(?:\w+:)?f[\s>/]""")
_HIDDEN = re.compile(rb"""<(?:\w+:)?row\s[^<>]*?\bhidden=["'](?:1|true)["']""")
_END_OF_ROW = re.compile(rb"</(?:\w+:)?row>")

Merges = Mapping[int, list[tuple[int, int, str]]]
"""By column, from 0: first row, last row and first cell of merged cells, in their order."""


def find_merges(sheet: IO[bytes], after: int) -> tuple[Merges, bool, int]:
    """Return merged cells of a sheet below row ``after``, whether it has errors or formulas, and its hidden rows.

    Raises:
        ValueError: If it has more than a sheet may have.
    """
    source = BoundedReader(sheet, LONGEST_LINE, MOST_TAGS)
    found: dict[int, list[tuple[int, int, str]]] = {}
    rest, has_suspects, count, rows, hidden = b"", False, 0, 0, 0
    while chunk := source.read(_CHUNK_BYTES):
        data = rest + chunk
        end = max(0, len(data) - _LONGEST_TAG)
        ends = len(_END_OF_ROW.findall(chunk))
        if ends:
            source.restart()
        rows += ends
        if rows > MOST_ROWS:
            raise ValueError(f"a sheet has more than {MOST_ROWS:,} rows")
        has_suspects = has_suspects or _SUSPECT.search(data) is not None
        for match in _HIDDEN.finditer(data):
            end = max(end, match.end())
            hidden += 1
        for match in _MERGED.finditer(data):
            end = max(end, match.end())
            first, last = column_number(match[1].decode()), column_number(match[3].decode())
            if int(match[4]) <= after:
                continue
            count += last + 1 - first
            if count > MOST_ROWS:
                raise ValueError(f"a sheet has more than {MOST_ROWS:,} merged cells")
            cell = f"{match[1].decode()}{int(match[2])}"
            for column in range(first, last + 1):
                found.setdefault(column, []).append((int(match[2]), int(match[4]), cell))
        rest = data[end:]
    return {column: sorted(ranges) for column, ranges in found.items()}, has_suspects, hidden


def gap_in(cell: ElementTree.Element | None, line: int, column: int, merges: Merges) -> tuple[str, str]:
    """Return why an empty cell looks filled, and what is in it: ("error", "#N/A"); empty if it does not.

    Args:
        cell: The cell; None if the sheet does not list it.
        line: Its row, from 1.
        column: Its column, from 0.
        merges: The merged cells.
    """
    if cell is not None:
        value = next((child.text for child in cell if tag(child) == "v"), None)
        if cell.get("t") == "e":
            return "error", value or "an error"
        if value is None and cell.get("t", "n") == "n" and any(tag(child) == "f" for child in cell):
            return "formula", "a formula without a stored value"
        if value is not None or cell.get("t") == "inlineStr":
            return "", ""
    ranges = merges.get(column, [])
    place = bisect.bisect_right(ranges, line, key=lambda item: item[0]) - 1
    if place < 0 or ranges[place][1] < line or ranges[place][2] == f"{column_letters(column)}{line}":
        return "", ""
    return "merged", ranges[place][2]


class Gaps:
    """Counts the gaps of a sheet by column and kind."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], int] = {}
        self._first: dict[tuple[int, str], str] = {}

    def add(self, line: int, column: int, kind: str, content: str) -> None:
        """Count a gap; ``kind`` and ``content`` as ``gap_in`` gives them."""
        self._counts[column, kind] = self._counts.get((column, kind), 0) + 1
        self._first.setdefault((column, kind), describe_gap(line, column, kind, content))

    def warnings(self, names: Mapping[int, str], shown: str) -> list[str]:
        """Return a sentence for each kind of gap in each of the columns."""
        return [
            f"{counted(count, 'cell')} of column {names[column]} of {shown} {'are' if count > 1 else 'is'} read as"
            f" empty ({self._first[column, kind]}): {_REMEDIES[kind]}."
            for (column, kind), count in sorted(self._counts.items())
            if column in names
        ]


_REMEDIES = {
    "error": "correct the formulas that give errors, or remove the rows",
    "formula": "open the file in a spreadsheet program and save it, which stores the results of formulas",
    "merged": "only the first of merged cells holds their value; split them and fill each",
}


def describe_gap(line: int, column: int, kind: str, content: str) -> str:
    """Return a gap in words.

    Example:
        >>> describe_gap(5, 0, "error", "#N/A"), describe_gap(3, 1, "merged", "B2")
        ('A5 holds #N/A', 'B3 is merged into B2')
    """
    return f"{column_letters(column)}{line} {'is merged into' if kind == 'merged' else 'holds'} {content}"


def column_number(letters: str) -> int:
    """Return the place of a column, from 0.

    Raises:
        ValueError: If it is beyond the last that is read.

    Example:
        >>> column_number("A"), column_number("AB")
        (0, 27)
    """
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
        if number > MOST_COLUMNS:
            raise ValueError(f"it names the column {letters[:20]}")
    return number - 1


def column_letters(column: int) -> str:
    """Return the name of a column, counted from 0: 27 is AB."""
    letters = ""
    while column >= 0:
        column, letter = divmod(column, 26)
        letters, column = chr(ord("A") + letter) + letters, column - 1
    return letters
