"""The header of a table: whether the first row is one, the names of the columns, columns that only number the rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from transformer_foundry.core.base.text import one_line

__all__ = [
    "UNSURE",
    "are_row_names",
    "clean_names",
    "default_names",
    "find_index_columns",
    "find_second_table",
    "has_usual_name",
    "is_guessed",
    "is_header",
    "is_numbered_row",
]

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_USUAL_NAMES = frozenset(
    (
        *("english", "german", "french", "spanish", "italian", "portuguese", "russian", "chinese", "japanese"),
        *("en", "de", "fr", "es", "it", "pt", "ru", "zh", "ja"),
        *("text", "label", "labels", "id", "index", "sentence", "sentence1", "sentence2", "content", "title"),
        *("body", "review", "comment", "target", "source", "src", "tgt", "question", "answer", "input"),
        *("output", "inputs", "targets", "prompt", "completion", "response", "instruction", "context"),
        *("premise", "hypothesis", "class", "category", "sentiment", "topic", "name", "tokens", "tags"),
        *("words", "word", "pos", "tag", "ner_tags", "summary", "article", "document", "message", "query"),
        *("passage", "url", "date", "score", "rating", "stars", "value", "y", "x", "lang", "language"),
        *("author", "user", "date", "time", "split"),
    )
)
_INDEX_NAMES = re.compile(r"__index_level_\d+__|Unnamed: 0(\.\d+)*|unnamed: 0|")
UNSURE = "its cells"
"""What the evidence begins with if only the convention says that the first row is a header."""
_SHORTER, _OVER_NUMBERS = _CLEAR = "is much shorter than the texts below it", "stands over a column of numbers"
_UNLIKE, _NOT_REPEATED = _GUESSED = (
    "is written unlike the values below it",
    "is none of the values that repeat below it",
)
_MOST_GAPS = 3  # blank lines between all rows separate nothing
_LONGEST_NAME = 40
_KEYS = frozenset(("id", "idx", "index", "key", "no", "nr", "number", "row"))
_MOSTLY_NUMBERS = 0.9
_CLEARLY_LONGER = 3
_SAME_TRAITS = 0.9  # share of the values of a column that are written alike
_ENOUGH_VALUES = 5
_FEW_VALUES = 0.5  # distinct values per row; below it, values repeat


def is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> tuple[bool, str]:
    """Return whether the first row of a table holds the names of its columns, and the evidence.

    It does if a column of numbers begins with a word, or texts begin with something much shorter; it does not if a
    number, or a value that occurs in other rows too, is in it. Usual names decide first.

    Args:
        first: The first row.
        others: Rows after it, all as wide.

    Example:
        >>> is_header(["text", "label"], [["a dog", "0"], ["a cat", "1"]])[0]
        True
        >>> is_header(["ham", "see you at ten"], [["spam", "win now"], ["ham", "ok then"]])[0]
        False
    """
    names = [cell.strip() for cell in first]
    if not others:
        return True, "there is no other row"
    if _numbers_columns(names, others):
        return True, "it numbers the columns, as pandas does where they have no names"
    usual = [name for name in names if name.lower() in _USUAL_NAMES]
    columns = [[row[place].strip() for row in others] for place in range(len(names))]
    repeats = [name for name, column in zip(names, columns, strict=True) if name and name in column]
    votes, reasons = 0, {True: f"{UNSURE} are distinct and short", False: f"{UNSURE} are like those of other rows"}
    for name, column in zip(names, columns, strict=True):
        vote, reason = _vote(name, column)
        votes += vote
        if vote and not (is_guessed(reason) and reasons[vote > 0].endswith(_CLEAR)):
            reasons[vote > 0] = reason
    if usual and (not repeats or list(first) in [list(row) for row in others]):
        is_sure = votes > 0 or len(usual) > 1 or len(usual) == len(names)
        return True, f"it contains the usual name {usual[0]}" if is_sure else f"{UNSURE} include a usual name"
    if votes == 0:
        # By convention a table has a header, unless its first row cannot be one.
        votes = 1 if len(set(names)) == len(names) and all(_could_be_name(name) for name in names if name) else -1
    return votes > 0, reasons[votes > 0]


def is_guessed(evidence: str) -> bool:
    """Return whether the first row was taken for the header by convention, or only because its cells are unlike others.

    A first row of data may be unlike the others too.
    """
    return evidence.startswith(UNSURE) or evidence.endswith(_GUESSED)


def has_usual_name(row: Sequence[str]) -> bool:
    """Return whether a cell is a usual name of a column, such as text."""
    return any(cell.strip().lower() in _USUAL_NAMES for cell in row)


def is_numbered_row(row: Sequence[str], header: Sequence[str], before: int) -> bool:
    """Return whether a row has a number before the fields of the header, larger than that of the row before.

    R writes the names of rows without a name above them. Under a header that names a key, a field too many is no such
    number.
    """
    is_longer = len(row) == len(header) + 1 and header[0].strip().lower() not in _KEYS
    return is_longer and row[0].isdecimal() and int(row[0]) > before


def are_row_names(numbers: Sequence[int], separator: str, *, has_quotes: bool) -> bool:
    """Return whether numbers before the fields of the header name the rows, and are not the beginnings of texts.

    In a file without quotes, ``1950, the year of ...`` may be a text with the separator, unless the numbers count the
    rows, or the separator is a tab, which texts do not contain.

    Args:
        numbers: The numbers, in order.
        separator: What separates the fields.
        has_quotes: Whether the file quotes texts that contain the separator.

    Example:
        >>> are_row_names([1, 2, 3], ",", has_quotes=False), are_row_names([1950, 1951], ",", has_quotes=False)
        (True, False)
    """
    counts_rows = numbers[0] in (0, 1) and all(number == numbers[0] + at for at, number in enumerate(numbers))
    return counts_rows or has_quotes or separator == "\t"


def clean_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names without surrounding blanks, each once, and a sentence for each that was changed.

    Example:
        >>> clean_names([" text ", "label", "label"])
        (['text', 'label', 'label_2'], ['Two columns are called label: the later one is read as label_2.'])
    """
    found: list[str] = []
    notes = []
    for place, name in enumerate(names, start=1):
        clean = one_line(" ".join(name.lstrip("\ufeff").split()))
        unique, number = clean, 2
        while unique and unique in found:
            unique, number = f"{clean}_{number}", number + 1
        if unique != clean:
            notes.append(f"Two columns are called {clean}: the later one is read as {unique}.")
        found.append(unique or f"column_{place}")
    return found, notes


def default_names(width: int) -> list[str]:
    """Return the names of the columns of a table without a header: column_1, column_2, ..."""
    return [f"column_{place}" for place in range(1, width + 1)]


def find_index_columns(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[int]:
    """Return the places of columns that pandas and R wrote to number the rows: unnamed ones that hold numbers or names.

    Args:
        names: The names in the file.
        rows: The first rows.
    """
    found = []
    for place, name in enumerate(names):
        if _INDEX_NAMES.fullmatch(name.strip()) is None:
            continue
        cells = [str(row[place]).strip() for row in rows]
        is_numbered = bool(cells) and all(re.fullmatch(r"\d+(\.0)?", cell) for cell in cells)
        if name.strip() or (place == 0 and is_numbered and len(set(cells)) == len(cells)) or (rows and not any(cells)):
            found.append(place)
    return found if len(found) < len(names) else []


def find_second_table(rows: Sequence[Sequence[str]], lines: Sequence[int]) -> tuple[int, list[str]] | None:
    """Return line and names of a row that names columns again after blank lines, as where two tables were joined.

    Args:
        rows: The rows, the header first.
        lines: The line where each begins.

    Example:
        >>> find_second_table([["text", "label"], ["one dog", "a"], ["name", "age"], ["Ann", "9"]], [1, 2, 4, 5])
        (4, ['name', 'age'])
    """
    gaps = []
    for place in range(2, len(rows)):
        between = lines[place] - lines[place - 1] - 1
        if between and between > sum(len(cell.splitlines() or [""]) - 1 for cell in rows[place - 1]):
            gaps.append(place)
    if len(gaps) > _MOST_GAPS:
        return None
    for start, end in itertools.pairwise([*gaps, len(rows)]):
        width = len([cell for cell in rows[start] if cell.strip()])
        below = [list(row[:width]) for row in rows[start + 1 : end] if len(row) >= width]
        names = [cell.strip() for cell in rows[start][:width]]
        if width < 2 or not below or not all(_could_be_name(name) for name in names):
            continue
        found, evidence = is_header(names, below)
        if found and not is_guessed(evidence) and list(rows[start]) != list(rows[0]):
            return lines[start], names
    return None


def _numbers_columns(names: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Return whether names are 0, 1, 2 ... above at least one column that does not consist of numbers."""
    start = int(len(names) > 1 and not names[0])  # without a name, pandas' index
    if list(names[start:]) != [str(place) for place in range(len(names) - start)]:
        return False
    columns = [[row[place] for row in others if row[place].strip()] for place in range(start, len(names))]
    texts = [sum(_NUMBER.fullmatch(cell) is None for cell in column) for column in columns]
    return any(column and found > _MOSTLY_NUMBERS * len(column) for column, found in zip(columns, texts, strict=True))


def _vote(name: str, column: Sequence[str]) -> tuple[int, str]:
    """Return 1 if ``name`` is unlike the values of its column, -1 if it is one of them, else 0."""
    values = [value for value in column if value]
    if not values:
        return 0, ""
    numbers = sum(_NUMBER.fullmatch(value) is not None for value in values)
    if numbers > 0.9 * len(values):
        if _NUMBER.fullmatch(name):
            return -2, f"it contains the number {name}, as other rows do"
        return (2, f"{name[:_LONGEST_NAME]} {_OVER_NUMBERS}") if name else (1, "an unnamed column")
    if _NUMBER.fullmatch(name):
        return -1, f"it contains the number {name}"
    if name in values:
        return -2, f"its value {name[:_LONGEST_NAME]!r} occurs in other rows too"
    average = sum(map(len, values)) / len(values)
    if name and average > _CLEARLY_LONGER * len(name) and _could_be_name(name):
        return 1, f"{name} {_SHORTER}"
    if not _could_be_name(name) and len(name) > average / 2:
        return -1, "its texts are as long as those of other rows"
    traits = [_traits(value) for value in values]
    if (
        len(values) >= _ENOUGH_VALUES
        and name
        and traits.count(_traits(name)) < (1 - _SAME_TRAITS) * len(values)
        and _could_be_name(name)
    ):
        return 1, f"{name} {_UNLIKE}"
    if (
        len(values) >= _ENOUGH_VALUES
        and any(_traits(name))
        and traits.count(_traits(name)) >= _SAME_TRAITS * len(values)
    ):
        return -1, f"{name[:_LONGEST_NAME]!r} is written like the values below it"
    if len(set(values)) <= _FEW_VALUES * len(values) and len(values) >= _ENOUGH_VALUES and name:
        return 1, f"{name} {_NOT_REPEATED}"
    return 0, ""


def _traits(cell: str) -> tuple[bool, bool, bool, bool]:
    """Return whether a cell has digits, a capital at its beginning, blanks, and a mark at its end."""
    return (
        any(char.isdigit() for char in cell),
        cell[:1].isupper(),
        " " in cell,
        cell[-1:] in (".", "!", "?"),
    )


def _could_be_name(cell: str) -> bool:
    return 0 < len(cell) <= _LONGEST_NAME and len(cell.split()) <= 4 and not cell.endswith((".", "!", "?", ","))
