"""The separator of the fields of a table, and the reading of one record under it."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence

from transformer_foundry.core.data.sources.files.separated.header import UNSURE, has_usual_name, is_header

__all__ = ["DECLARED", "count_preamble", "count_title_rows", "find_separator", "split_plain", "trial_widths"]

_SEPARATORS = (" ||| ", "|||", " +++$+++ ", " | ", ",", ";", "\t", "|", "\x01", "\x1f", " :: ", "::", "^", "~")
_NO_SEPARATOR = "\x1e"
_RARE = ("^", "~")  # only below names of columns
_STRONG = ("\t", "\x01", "\x1f", " ||| ", "|||", " +++$+++ ")  # prose does not contain them
_COLONS, _FEW_FIELDS = (" :: ", "::"), 3  # a table also without names of columns, as MovieLens writes it
_TABLE_ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_ROWS = 2000
_MOST_LINES = 100
_MOST_TITLES = 20
_TITLE_CELLS = 2**18
_PREAMBLE_CHARACTERS = 2**16
_FEW_ROWS = 5
_MOST = 0.9  # share of the rows with the width of the first one; the reader names the line of another one
_HALF = 0.5
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_NAME = re.compile(r"[\w #./()-]{1,40}")
DECLARED = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""The first line of a csv for Excel, which names the separator."""


def find_separator(text: str, ending: str, *, is_whole: bool) -> tuple[str | None, str]:
    """Return the separator of a table that begins with ``text``, and the evidence; None if it is no table.

    A separator is accepted if nearly all records have as many fields as the first, more than one, with quotes as
    quotes or as text. Without the ending of a table it must also be one that prose does not contain, or stand in all of
    at least five records below names of columns.

    Args:
        text: The beginning of the file.
        ending: The ending of its name.
        is_whole: Whether ``text`` is the whole file.
    """
    declared = DECLARED.match(text)
    if declared and ending in _TABLE_ENDINGS:
        return declared.group(1), "a first line that declares the separator"
    claimed = _TABLE_ENDINGS.get(ending)
    found = {}
    for separator in sorted(_SEPARATORS, key=lambda item: (item != claimed, _SEPARATORS.index(item))):
        if separator not in text or (separator in _RARE and not _has_names(text, separator)):
            continue
        body = _without_preamble(text, separator, is_claimed=claimed is not None)
        share, width, rows = _agreement(body, separator, is_whole=is_whole)
        if width > 1 and (claimed is not None or _is_convincing(body, separator, share, width, rows)):
            found[separator] = share
    best = max(found, key=lambda separator: found[separator], default=None)
    if claimed is None:
        return best, f"rows of as many fields each, separated by {best!r}" if best else ""
    if best is not None:
        text = _without_preamble(text, best, is_claimed=True)
    if best is None or (found[best] <= _HALF and claimed not in found and not _has_names(text, best)):
        # Separators in the rows alone are text, unless all rows have equally many: then names are missing above them.
        widths = set(trial_widths(text, claimed, quoted=False, is_whole=is_whole)[1:])
        is_too_short = len(widths) == 1 and widths != {1}
        return claimed if is_too_short else _NO_SEPARATOR, f"one column, and the ending {ending}"
    best = claimed if found[best] <= _HALF and claimed in found else best
    return best, f"fields separated by {best!r}, and the ending {ending}"


def count_preamble(lines: Sequence[str], separator: str) -> int:
    """Return the number of lines before the header: comments (#), or titles that have fewer fields than all rows.

    Lines are titles only if names of columns follow, told apart from their rows by more than their place.

    Example:
        >>> count_preamble(["# made by x", "text,label", "a,0"], ","), count_preamble(["#id,text", "1,a"], ",")
        (1, 0)
        >>> count_preamble(["Reviews of May", "", "text,label", "good,1", "bad,0"], ",")
        2
    """
    return _count_comments(lines[:_MOST_LINES], separator) or _count_titles(lines[:_MOST_LINES], separator)


def count_title_rows(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of first rows that are titles above the header, as ``count_preamble`` does for lines.

    Args:
        rows: The first rows, filled up to one width; columns that are empty below the titles do not count.

    Example:
        >>> count_title_rows([["Reviews of May", ""], ["text", "label"], ["good", "1"], ["bad", "0"], ["fine", "1"]])
        1
    """
    rows = rows[: max(4, _TITLE_CELLS // max(len(rows[0]), 1))]
    for skip in range(1, min(_MOST_TITLES, len(rows) - 1) + 1):
        filled = [place for place in range(len(rows[0])) if any(row[place].strip() for row in rows[skip:])]
        below = [[row[place] for place in filled] for row in rows[skip:]]
        if _may_begin_table(below):
            return skip if _are_titles(rows[:skip], below) else 0
    return 0


def _count_titles(lines: Sequence[str], separator: str) -> int:
    if len(separator) > 1:
        return 0
    for skip in range(1, min(_MOST_TITLES, len(lines) - 1) + 1):
        rows = _rows_below(lines, skip, separator)
        if lines[skip].strip() and _may_begin_table(rows):
            return skip if _are_titles([split_plain(line, separator) for line in lines[:skip]], rows) else 0
    return 0


def _may_begin_table(rows: Sequence[Sequence[str]]) -> bool:
    width = len(rows[0]) if rows else 0
    if width < 2 or len(rows) < 3 or not all(cell.strip() for cell in rows[0]):
        return False
    return all(len(row) == width for row in rows[1:-1])  # the last one may be cut


def _are_titles(above: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether lines above a table are its titles, and the first row of the table names its columns."""
    titles = [[cell.strip() for cell in title] for title in above]
    is_short = all(sum(map(bool, title)) < len(rows[0]) for title in titles)
    # pandas writes the groups of columns above their names.
    has_groups = all(len(set(title) - {""}) < len(rows[0]) for title in titles) and has_usual_name(rows[0])
    return (is_short or has_groups) and _names_columns(rows)


def _rows_below(lines: Sequence[str], skip: int, separator: str) -> list[list[str]]:
    if len(separator) > 1:
        return [split_plain(line, separator) for line in lines[skip:] if line.strip()]
    try:
        return [row for row in csv.reader(lines[skip:], delimiter=separator) if row]
    except csv.Error:
        return []


def _names_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row names columns, told apart from the others by more than its place."""
    others = [row for row in rows[1:-1] if len(row) == len(rows[0])]
    found, evidence = is_header(rows[0], others)
    is_sure = found and bool(others) and not evidence.startswith(UNSURE)
    return is_sure and all(_NAME.fullmatch(cell.strip()) for cell in rows[0])


def _count_comments(lines: Sequence[str], separator: str) -> int:
    """Return the number of first lines that begin with # or are blank; a last one may be the header itself."""
    comments = list(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines))
    following = lines[len(comments)] if len(comments) < len(lines) else ""
    width = following.count(separator)
    if not width or not any(line.startswith("#") for line in comments):
        return 0
    is_unlike = all(line.count(separator) != width for line in comments)
    return len(comments) if is_unlike or _names_columns(_rows_below(lines, len(comments), separator)) else 0


def _without_preamble(text: str, separator: str, *, is_claimed: bool) -> str:
    """Return a text without the lines before its header; titles are looked for where the name claims a table."""
    start = text[:_PREAMBLE_CHARACTERS].split("\n")
    skip = _count_comments(start, separator) if text.startswith("#") else 0
    if not skip and is_claimed:
        skip = count_preamble([f"{line}\n" for line in start[: _MOST_LINES + 1]][:-1], separator)
    return text.split("\n", skip)[skip]


def _has_names(text: str, separator: str) -> bool:
    """Return whether the first line consists of names of columns."""
    return all(_NAME.fullmatch(part.strip()) for part in text.partition("\n")[0].rstrip("\r").split(separator))


def _is_convincing(text: str, separator: str, share: float, width: int, rows: int) -> bool:
    if separator in _STRONG:
        return share == 1 if rows < _FEW_ROWS else share >= _MOST
    if separator in _COLONS and share == 1 and rows >= _FEW_ROWS and width >= _FEW_FIELDS:
        # Each line begins with a number: names such as std::map::insert stand in lists and sentences too.
        firsts = [line.partition(separator)[0].strip() for line in text.split("\n")[:_ROWS] if line.strip()]
        if all(map(_NUMBER.fullmatch, firsts)):
            return True
    return share == 1 and rows >= _FEW_ROWS and _has_sure_header(text, separator)


def _has_sure_header(text: str, separator: str) -> bool:
    """Return whether the first line names columns, by more than its position: lists and verses have commas too."""
    lines = text.split("\n")[:_ROWS]
    if any(not line.strip() for line in lines[:-2]) or text.startswith(separator):
        return False
    rows = [split_plain(line, separator) for line in lines if line.strip()]
    others = [row for row in rows[1:-1] if len(row) == len(rows[0])]
    found, evidence = is_header(rows[0], others)
    return found and bool(others) and not evidence.startswith(UNSURE) and _has_names(text, separator)


def _agreement(text: str, separator: str, *, is_whole: bool) -> tuple[float, int, int]:
    """Return the share of records as wide as the first, this width, and the number of records."""
    best = (0.0, 0, 0)
    for quoted in (True, False):
        widths = trial_widths(text, separator, quoted=quoted, is_whole=is_whole)
        if widths:
            [(usual, count)] = Counter(widths).most_common(1)
            # Files of R and with trailing separators have one field more in each row than in the header.
            fitting = count if widths[0] in (usual, usual - 1) else widths.count(widths[0])
            best = max(best, (fitting / len(widths), widths[0], len(widths)))
    return best


def trial_widths(text: str, separator: str, *, quoted: bool, is_whole: bool) -> list[int]:
    """Return the numbers of fields of the first records of ``text``; empty if its quotes do not fit together."""
    lines = io.StringIO(text, newline="")
    if not quoted or len(separator) > 1:
        rows = [split_plain(line, separator) for line in lines if line.strip()]
        widths = [len(row) for row in rows[:_ROWS]]
        return widths[:-1] if len(widths) == len(rows) > 1 and not is_whole else widths
    widths = []
    try:
        for row in csv.reader(lines, delimiter=separator, strict=True):
            if row:
                widths.append(len(row))
            if len(widths) >= _ROWS:
                return widths
    except csv.Error as err:
        if "unexpected end" not in str(err) or is_whole:
            return []
    return widths[:-1] if not is_whole and len(widths) > 1 else widths


def split_plain(line: str, separator: str) -> list[str]:
    """Return the fields of a line whose quotes are text."""
    return line.rstrip("\r\n").split(separator)
