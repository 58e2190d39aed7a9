"""What a text is trained to give: one class, several labels or a number; decided by the model and the cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import is_missing, parse_list
from transformer_foundry.core.data.columns.labels import choose_labelled
from transformer_foundry.core.data.columns.roles import (
    LABEL_NAMES,
    NAMELESS,
    RATING_NAMES,
    TEXT_NAMES,
    named,
    words_of,
)
from transformer_foundry.core.data.columns.rows.annotations import RESPONSES
from transformer_foundry.core.data.columns.rows.numbers import (
    bare_number,
    read_flag,
    read_number,
    warn_of_digits,
    warn_of_thousands,
)
from transformer_foundry.core.data.document import Columns
from transformer_foundry.core.data.options import DataOptions

__all__ = ["IN_BRACKETS", "choose_targets"]

Rows = Sequence[Mapping[str, Any]]
ChooseText = Callable[[Rows, list[str], str], str]

_NUMBER_NAMES = (*RATING_NAMES, "similarity", "similarity_score", "relatedness", "value", "price", "gold", "mean")
_SET_NAMES = ("tags", "genres", "genre", "categories", "topics", "classes", "emotions", "keywords", "codes", "subjects")
_KEYS = frozenset(("id", "ids", "idx", "index", "key", "row", "number", "nr", "unnamed", "uuid"))
IN_BRACKETS = "><"
"""What joins names that stand in angle brackets: <python><pandas>."""
_BRACKETED = re.compile(r"(?:<[^<>]+>)+")
_SEPARATORS = ("|", ";", ",", "/")
_MOSTLY = 0.5  # share of the rows; the reader names the row with another value
_LONGEST_LABEL_WORDS = 4
_RECURRING = 0.6  # share of the parts of joined names that occur in another cell
_JOINED_NUMBERS = re.compile(r"\d+(?:\s?[|;,/]\s?\d+)+")
_HALVES = frozenset(("0", "5", "00", "25", "50", "75"))
_SINGLE_VALUES = 0.005  # share of the rows


def choose_targets(
    rows: Rows,
    names: list[str],
    task: str,
    options: DataOptions,
    source: str,
    choose_text: ChooseText,
    num_labels: int | None = None,
) -> Columns:
    """Return the columns of a text, or of a pair of texts, and of what the model learns about it.

    Args:
        rows: The examined rows.
        names: The columns.
        task: One of ``core.models.options.TEXT_TASKS``; ``sequence_classification`` if it is not set.
        options: May name the columns.
        source: Name of the table in messages.
        choose_text: Chooses the column of running text.
        num_labels: Number of outputs of the model; None if it is unknown.

    Raises:
        DataError: If the choice is ambiguous, or no column fits the task.
    """

    def with_texts(label: str | None, flags: Sequence[str] = ()) -> Columns:
        return choose_labelled(rows, names, options, source, choose_text, label=label, flags=flags)

    if options.label_columns is not None or task == "multi_label_classification":
        return _several(rows, names, options, source, with_texts)
    if task == "regression" or num_labels == 1:
        found = _number(rows, names, task, options, source, with_texts)
        if found is not None:
            return found
    several = None if num_labels == 1 else _find_several(rows, names, options, with_texts, num_labels)
    if several is not None and several.targets == "columns" and len(several.flags) != num_labels:
        several = _flags_unless_class(several, with_texts)
    if several is not None:
        return several
    chosen = with_texts(None)
    is_list_of_annotators = options.label_column is None and str(chosen.label).endswith(RESPONSES)
    if num_labels != 1 and not is_list_of_annotators:  # a column without the name of a label
        several = _find_several(rows, names, replace(options, label_column=chosen.label), with_texts, num_labels)
    return several or _one_class(rows, chosen, source, num_labels)


def _number(
    rows: Rows,
    names: list[str],
    task: str,
    options: DataOptions,
    source: str,
    with_texts: Callable[..., Columns],
) -> Columns | None:
    """Return the columns of a text and its number; None if the labels are no numbers and the task is not set."""
    numeric = [name for name in names if _is_numeric(rows, name) and not _KEYS.intersection(words_of(name))]
    label = options.label_column or named(numeric, (*LABEL_NAMES, *_NUMBER_NAMES))
    if label is None:
        last = [name for name in numeric if (words_of(name) or [""])[-1] in (*LABEL_NAMES, *_NUMBER_NAMES)]
        candidates = last or numeric
        label = candidates[0] if len(candidates) == 1 else None
    if label is None or not _is_numeric(rows, label):
        if task != "regression":
            return None
        raise _no_numbers(rows, names, label, source)
    if task != "regression" and all(read_flag(row.get(label)) is not None for row in rows):
        reason = (
            f"The model has one output, and column {label} holds 0 and 1: whether the label applies, learned with a "
            "sigmoid. model.task=regression learns them as numbers."
        )
        return replace(with_texts(None, (label,)), targets="columns", reason=reason)
    why = "model.task is regression" if task == "regression" else "the model has one output"
    reason = f"Each text has a number (column {label}), as {why}: it is learned by mean squared error."
    return replace(
        with_texts(label),
        targets="number",
        reason=reason,
        warnings=(*warn_of_thousands(rows, label), *warn_of_digits(rows, label)),
    )


def _no_numbers(rows: Rows, names: list[str], label: str | None, source: str) -> DataError:
    """Return the error of a table without a column of numbers; name a column whose cells hold more than numbers."""
    for name in [label] if label else names:
        filled = [value for row in rows if not is_missing(value := row.get(name)) and str(value).strip()]
        bare = [bare_number(value) for value in filled]
        if filled and sum(number is not None for number in bare) > _MOSTLY * len(filled):
            place = next(place for place, number in enumerate(bare) if number is not None)
            place = next((at for at, one in enumerate(bare) if one and one.strip("0.")), place)
            return DataError(
                f"Column {name} of {source} holds more than numbers, such as {str(filled[place])[:40]!r}.",
                f"Expected bare numbers for the task regression, such as {bare[place]}.",
                "Write them without signs, units and marks between thousands.",
            )
    found = f"column {label} holds {_first(rows, label)!r}" if label else f"its columns: {short_list(names)}"
    return DataError(
        f"{source} has no column of numbers for the task regression; {found}.",
        "Expected a number for each text, such as 3.8.",
        "Set data.label_column to the column of numbers.",
    )


def _several(
    rows: Rows, names: list[str], options: DataOptions, source: str, with_texts: Callable[..., Columns]
) -> Columns:
    """Return the columns of a text and its labels, for a task that is set."""
    missing = [name for name in options.label_columns or () if name not in names]
    if missing:
        raise DataError(
            f"{source} has no column {short_list(missing)} (data.label_columns); it has {short_list(names)}.",
            "Expected columns of 0 and 1, one for each label.",
            "Correct data.label_columns.",
        )
    if options.label_columns:
        return _from_flags(with_texts, tuple(options.label_columns))
    found = _find_several(rows, names, options, with_texts)
    if found is not None:
        return found
    chosen = with_texts(None)
    assert chosen.label is not None
    if all(read_flag(row.get(chosen.label)) is not None for row in rows):
        return _from_flags(with_texts, (chosen.label,))
    separator = (
        options.label_separator or _joined_numbers(rows, chosen.label)[1] or _shared_separator(rows, chosen.label)
    )
    how = f", joined by {separator!r}" if separator else ""
    reason = f"Each text has labels (column {chosen.label}{how}), as model.task is multi_label_classification."
    return replace(chosen, targets="names", separator=separator, reason=reason)


def _shared_separator(rows: Rows, label: str) -> str | None:
    """Return what may join names of a task that is set: cells share parts that stand alone in others."""
    cells = {str(value).strip() for row in rows if not is_missing(value := row.get(label))}
    if cells and all(_BRACKETED.fullmatch(cell) for cell in cells):
        return IN_BRACKETS
    for separator in ("+", "&", ":", " "):
        split = [cell.split(separator) for cell in cells]
        alone = {parts[0].strip() for parts in split if len(parts) == 1}
        joined = [part.strip() for parts in split if len(parts) > 1 for part in parts]
        if joined and sum(part in alone for part in joined) > _RECURRING * len(joined):
            return separator
    return None


def _find_several(
    rows: Rows,
    names: list[str],
    options: DataOptions,
    with_texts: Callable[..., Columns],
    num_labels: int | None = None,
) -> Columns | None:
    """Return the columns if the cells show that a text has several labels, else None."""
    texts = (options.text_column, options.pair_column)
    label = options.label_column or named([name for name in names if name not in texts], (*LABEL_NAMES, *_SET_NAMES))
    if label is None:
        flags = _flag_columns(rows, [name for name in names if name not in texts])
        # first_label and second_label are two opinions, not two labels.
        are_labels = len(flags) > 1 and not any((words_of(name) or [""])[-1] in LABEL_NAMES for name in flags)
        return _from_flags(with_texts, flags) if are_labels else None
    lists = [found for row in rows if (found := parse_list(row.get(label))) is not None]
    # Label Studio writes a list only where a text has several.
    others = [value for row in rows if not is_missing(value := row.get(label)) and parse_list(value) is None]
    are_single = all(isinstance(value, str) and len(value.split()) <= _LONGEST_LABEL_WORDS for value in others)
    if lists and are_single and all(_is_label(item) for items in lists for item in items):
        return _from_lists(label, lists + [[value] for value in others], with_texts)
    separator = (
        options.label_separator if options.label_separator is not None else _find_separator(rows, label, num_labels)
    )
    if not separator:
        return None
    reason = (
        f"Each text has several labels: column {label} holds names joined by {separator!r}. "
        "data.label_separator='' reads each cell as one class."
    )
    return replace(with_texts(label), targets="names", separator=separator, reason=reason)


def _flags_unless_class(chosen: Columns, with_texts: Callable[..., Columns]) -> Columns | None:
    """Return the columns of 0 and 1, which are not as many as the outputs; None if a rating or class is beside them.

    Raises:
        DataError: If the table has no header: numbers of 0 and 1 are counts then, as often as labels.
    """
    try:
        label = with_texts(None).label
    except DataError:
        if any(map(NAMELESS.fullmatch, chosen.flags)):
            raise
        return chosen
    return chosen if label in chosen.flags else None


def _from_flags(with_texts: Callable[..., Columns], flags: tuple[str, ...]) -> Columns:
    reason = f"Each text has several labels: the columns {short_list(flags)} hold 0 and 1."
    if len(flags) == 1:
        reason = f"Column {flags[0]} holds 0 and 1: whether the label applies, learned with a sigmoid."
    return replace(with_texts(None, flags), targets="columns", reason=reason)


def _from_lists(label: str, lists: Sequence[Sequence[Any]], with_texts: Callable[..., Columns]) -> Columns:
    size = len(lists[0])
    is_flags = size > 1 and all(len(items) == size and set(map(read_flag, items)) <= {0, 1} for items in lists)
    # [0, 1] may also be the numbers of two classes; a list of these names none of them twice.
    is_flags = is_flags and (size > 2 or any(items[0] == items[1] for items in lists))
    what = f"lists of {size} zeros and ones, one for each label" if is_flags else "lists of labels"
    reason = f"Each text has several labels: column {label} holds {what}."
    return replace(
        with_texts(label), targets="flags" if is_flags else "names", flag_count=size if is_flags else 0, reason=reason
    )


def _one_class(rows: Rows, chosen: Columns, source: str, num_labels: int | None) -> Columns:
    """Return the columns of a text and its class; refuse numbers for which the model has too few outputs."""
    label = chosen.label
    assert label is not None
    chosen = replace(chosen, warnings=(*chosen.warnings, *_warn_of_joined_numbers(rows, label)))
    numbers = [read_number(row.get(label)) for row in rows if not is_missing(row.get(label))]
    known = [number for number in numbers if number is not None]
    if num_labels == 1:
        raise DataError(
            f"The labels of {source} (column {label}) are no numbers, such as {_first_name(rows, label)!r}; the model"
            " has one output.",
            "Expected numbers to learn, or 0 and 1 for a label that applies or not.",
            "Export the model with an output for each class, or set data.label_column to a column of numbers.",
        )
    if num_labels is None or len(known) < len(numbers):
        return chosen
    fraction = next((number for number in known if number % 1), None)
    if fraction is not None and len(set(known)) > num_labels:
        raise DataError(
            f"The labels of {source} (column {label}) are numbers such as {fraction:g}; the model has {num_labels}"
            " outputs.",
            "Expected one output to learn numbers (regression), or classes.",
            "Export the model with one output, or set data.label_column to a column of classes.",
        )
    if fraction is None and not any("." in str(row.get(label)) for row in rows):
        return chosen
    reason = (
        f"The numbers in column {label} are read as classes, as the model has {num_labels} outputs; a model with one "
        "output learns them as numbers."
    )
    return replace(chosen, reason=reason)


def _warn_of_joined_numbers(rows: Rows, label: str) -> tuple[str, ...]:
    """Return a sentence if cells hold several whole numbers, which may be several labels of a text."""
    found, separator = _joined_numbers(rows, label)
    if not found:
        return ()
    return (
        f"Column {label} holds cells such as {found}, each of which is read as one class; if they are several labels, "
        f"set data.label_separator='{separator}'.",
    )


def _joined_numbers(rows: Rows, label: str) -> tuple[str, str]:
    """Return the first cell that holds several whole numbers and what joins them; two empty texts if there is none."""
    cells = [str(value).strip() for row in rows if not is_missing(value := row.get(label))]
    found = next((cell for cell in cells if _JOINED_NUMBERS.fullmatch(cell)), "")
    if not found or _are_halves([cell.split(",") for cell in cells]):
        return "", ""
    return found, next(mark for mark in _SEPARATORS if mark in found)


def _flag_columns(rows: Rows, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that hold only 0 and 1, and are no keys; of a single other value the reader names the row."""
    found = []
    for name in names:
        flags = [read_flag(row.get(name)) for row in rows]
        # What holds 0 and 1, both, is neither a key nor a text, whatever its name: NR-AhR, article.
        if {0, 1} - set(flags) and (name.lower() in TEXT_NAMES or _KEYS.intersection(words_of(name))):
            continue
        if flags.count(None) <= _SINGLE_VALUES * len(flags) and any(flag in (0, 1) for flag in flags):
            found.append(name)
    return tuple(found)


def _find_separator(rows: Rows, label: str, num_labels: int | None) -> str | None:
    """Return what joins several names in a cell: its parts recur in other combinations, unlike those of one name.

    "a", "b" and "a|b" are two labels; "Business, Finance" and "Science, Tech" are two classes, as are the towns
    "Albany, NY" and "Utica, NY". Numbers are labels if they are those of the outputs of the model.
    """
    cells = {str(value).strip() for row in rows if not is_missing(value := row.get(label))}
    for separator in _SEPARATORS:
        split = [[part.strip() for part in cell.split(separator)] for cell in cells]
        if separator == "," and _are_halves(split):
            continue
        counts = Counter(part for items in split for part in set(items))
        joined = [part for items in split if len(items) > 1 for part in items]
        is_joined = bool(joined) and sum(counts[part] > 1 for part in joined) > _RECURRING * len(joined)
        is_joined = is_joined or (bool(joined) and _are_outputs(counts, num_labels))
        if is_joined and all(part and len(part.split()) <= _LONGEST_LABEL_WORDS for part in counts):
            return separator
    return None


def _are_halves(cells: Sequence[Sequence[str]]) -> bool:
    """Return whether cells are whole, half and quarter numbers with a decimal comma, as ratings are."""
    after = {parts[1] for parts in cells if len(parts) == 2}
    is_number = all(len(parts) <= 2 and all(part.isdecimal() for part in parts) for parts in cells)
    return is_number and after <= _HALVES


def _are_outputs(parts: Iterable[str], num_labels: int | None) -> bool:
    """Return whether parts of cells are the numbers of outputs, the last one among them: 1,5 is a rating of 10."""
    numbers = {int(part) for part in parts if part.isdecimal() and str(int(part)) == part}
    is_whole = all(part.isdecimal() and str(int(part)) == part for part in parts)
    return num_labels is not None and is_whole and max(numbers, default=-1) == num_labels - 1


def _is_numeric(rows: Rows, name: str) -> bool:
    """Return whether most cells are numbers, and others, if any, are single ones, which the reader names."""
    values = [row.get(name) for row in rows if not is_missing(row.get(name))]
    return sum(read_number(value) is not None for value in values) > _MOSTLY * len(values)


def _is_label(item: object) -> bool:
    return isinstance(item, str | int) or (isinstance(item, float) and item.is_integer())


def _first_name(rows: Rows, name: str) -> str:
    values = (row.get(name) for row in rows if not is_missing(row.get(name)))
    return str(next((value for value in values if read_number(value) is None), ""))[:40]


def _first(rows: Rows, name: str) -> str:
    return str(next((row.get(name) for row in rows if not is_missing(row.get(name))), ""))[:40]
