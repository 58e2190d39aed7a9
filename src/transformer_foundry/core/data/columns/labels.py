"""Choose the columns of classifiers: texts with their classes, words with their tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import average_length, text_of
from transformer_foundry.core.data.columns.roles import (
    LABEL_NAMES,
    NAMELESS,
    RATING_NAMES,
    TEXT_NAMES,
    is_discrete,
    is_running_text,
    named,
    role_of,
    text_name,
    words_of,
)
from transformer_foundry.core.data.columns.rows.annotations import RESPONSES, refuse_native
from transformer_foundry.core.data.columns.tag_layouts import TAG_NAMES, WORD_NAMES
from transformer_foundry.core.data.document import Columns
from transformer_foundry.core.data.options import DataOptions

__all__ = ["choose_label", "choose_labelled", "choose_tags"]

Rows = Sequence[Mapping[str, Any]]

_COMPARED_NAMES = (
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("query", "passage"),
)


_PREDICATES = ("is", "has")
_ABOUT_ROWS = frozenset(  # words for what a row is or comes from: few different values of them are no classes
    (
        *("id", "ids", "idx", "index", "key", "row", "number", "nr", "unnamed", "uuid", "fold", "split", "part", "set"),
        *(
            "year",
            "month",
            "day",
            "date",
            "time",
            "lang",
            "language",
            "locale",
            "source",
            "origin",
            "dataset",
            "corpus",
        ),
        *("file", "filename", "path", "url", "author", "user", "name", "title", "version", "length", "count", "size"),
        *("annotator", "worker", "country", "license", "domain"),
    )
)
_FEW_ROWS = 4  # as many may have one value by chance
# Words that tell the two sides of a pair apart, as in sentence1 and sentence2, text_a and text_b.
_SIDES = (("1", "2"), ("a", "b"), ("left", "right"), ("first", "second"), ("0", "1"))


def choose_labelled(
    rows: Rows,
    names: list[str],
    options: DataOptions,
    source: str,
    choose_text: Callable[[Rows, list[str], str], str],
    *,
    label: str | None = None,
    flags: Sequence[str] = (),
) -> Columns:
    """Return the columns of a text, or of a pair of texts, and its class.

    Args:
        rows: The examined rows.
        names: The columns.
        options: May name the columns.
        source: Name of the table in messages.
        choose_text: Chooses the column of running text.
        label: The column of the label; None chooses it.
        flags: Columns of 0 and 1, which take the place of the label.

    Raises:
        DataError: If the choice is ambiguous.
    """
    reason = ""
    if label is None and not flags:
        label = options.label_column or choose_label(rows, names, options.text_column, source)
        is_found = options.label_column is None and not _has_label_name(label, names)
        if is_found and label in _class_columns(rows, names, options.text_column):
            reason = f"Column {label} is the class: of the columns, it alone has few different values."
        elif options.label_column is None and len(names) == 2 and _ABOUT_ROWS.intersection(words_of(label)):
            reason = f"Column {label} is the class: it is the only column beside the text."
    others = [name for name in names if name not in (label, *flags) and average_length(rows, name) > 0]
    varying = [name for name in others if _count_values(rows, name) > 1 or len(rows) < _FEW_ROWS]
    sides = [(one, other) for one in varying for other in varying if _are_sides(one, other)]
    if len(sides) > 1:  # kinds of texts, such as the origins of both sides, are no texts
        sides = [pair for pair in sides if not any(is_discrete(rows, name) for name in pair)] or sides
    known = (*sides, *_COMPARED_NAMES)
    pair = _named_pair(others, known, options.text_column, options.pair_column) if len(sides) < 2 else None
    if pair is not None:
        return Columns(pair[0], label=label, pair=pair[1], flags=tuple(flags), reason=reason)
    running = [name for name in varying if is_running_text(rows, name) and not is_discrete(rows, name)]
    if len(running) == 2 and all(map(NAMELESS.fullmatch, names)) and not (options.text_column or options.pair_column):
        # Without names, a title and a text, or two texts that are compared: both are read.
        return Columns(running[0], label=label, pair=running[1], flags=tuple(flags), reason=reason)
    if all(map(NAMELESS.fullmatch, names)) and len(running) == 1:
        others = running
    others = [name for name in others if name != options.pair_column]
    text = options.text_column or choose_text(rows, others, source)
    return Columns(text, None, label, options.pair_column, flags=tuple(flags), reason=reason)


def choose_tags(rows: Rows, names: list[str], options: DataOptions, source: str) -> Columns:
    """Return the columns of words and of their tags.

    Raises:
        DataError: If there are none.
    """
    textual = [name for name in names if average_length(rows, name) > 0]
    label = options.label_column or named([name for name in names if name != options.text_column], TAG_NAMES)
    words = options.text_column or named([name for name in textual if name != label], WORD_NAMES)
    if words is None or label is None:
        refuse_native(rows, source)
        missing = "words" if words is None else "tags"
        raise DataError(
            f"No column of {source} has the name of {missing}; columns: {short_list(names)}.",
            "Expected a list of words and a list of as many tags in each row, such as tokens and ner_tags.",
            "Set data.text_column and data.label_column to their names.",
        )
    return Columns(words, label=label)


def choose_label(rows: Rows, names: list[str], text: str | None, source: str) -> str:
    """Return the column of the class of a text.

    Raises:
        DataError: If no column has the name of one.
    """
    known = named([name for name in names if name != text], LABEL_NAMES)
    if known is not None:
        return known
    refuse_native(rows, source)
    others = [name for name in names if name != (text or named(names, TEXT_NAMES))]
    if len(names) == 2 and len(others) == 1:
        return others[0]
    responses = [name for name in others if name.endswith(RESPONSES)]
    if len(responses) == 1:
        return responses[0]
    classes = [name for name in others if is_discrete(rows, name)]
    compounds = [name for name in classes if _is_named_as_label(name)]
    if len(compounds) == 1:
        return compounds[0]
    ratings = [name for name in classes if words_of(name)[-1:] and words_of(name)[-1] in RATING_NAMES]
    ratings = [name for name in ratings if not any(_is_fraction(row.get(name)) for row in rows)]
    if len(ratings) == 1:
        return ratings[0]
    if len(names) == 2 and len(classes) == 1:  # a table without a header: class and text, in either order
        return classes[0]
    only = _class_columns(rows, names, text)
    if len(only) == 1 and not compounds and not ratings:
        return only[0]
    raise DataError(
        f"No column of {source} has the name of a label; its columns: {short_list(names)}.",
        f"Expected one such as {', '.join(LABEL_NAMES[:4])}.",
        "Set data.label_column to its name.",
    )


def _is_named_as_label(name: str) -> bool:
    """Return whether a name is that of a label by its words: gold_label, is_duplicate."""
    words = words_of(name)
    return len(words) > 0 and (words[-1] in LABEL_NAMES or (words[0] in _PREDICATES and len(words) > 1))


def _has_label_name(name: str, names: Sequence[str]) -> bool:
    known = (*LABEL_NAMES, *RATING_NAMES)
    return len(names) <= 2 or _is_named_as_label(name) or (words_of(name) or [""])[-1] in known


def _class_columns(rows: Rows, names: Sequence[str], text: str | None) -> list[str]:
    """Return the columns of few different values whose names are not those of a text, a key or its origin."""
    told = [name for name in names if name != text and not _ABOUT_ROWS.intersection(words_of(name))]
    classes = [name for name in told if is_discrete(rows, name) and text_name([name]) is None]
    classes = [name for name in classes if role_of(name) is None and _count_values(rows, name) > 1]
    return [name for name in classes if not any(_is_fraction(row.get(name)) for row in rows)]


def _count_values(rows: Rows, name: str) -> int:
    return len({text_of(row.get(name)).strip() for row in rows} - {""})


def _is_fraction(value: object) -> bool:
    try:
        return not isinstance(value, bool | int) and value is not None and float(str(value)) % 1 != 0
    except ValueError:
        return False


def _are_sides(one: str, other: str) -> bool:
    """Return whether two names differ only in a word for the first and the second side."""
    pairs = list(zip(words_of(one), words_of(other), strict=False))
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    return len(words_of(one)) == len(words_of(other)) and len(differing) == 1 and differing[0] in _SIDES


def _named_pair(
    names: Sequence[str], known: Sequence[tuple[str, str]], first: str | None, second: str | None
) -> tuple[str, str] | None:
    """Return the first pair of usual names that is compatible with the options."""
    lowered = {name.lower(): name for name in reversed(names)}
    lowered |= {name: name for name in names}
    found = ((lowered[one], lowered[other]) for one, other in known if one in lowered and other in lowered)
    return next((pair for pair in found if first in (None, pair[0]) and second in (None, pair[1])), None)
