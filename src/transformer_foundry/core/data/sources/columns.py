"""Columns of a table: choose those of text, target and label, and convert rows to documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.data.document import Columns, Document
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.rows import Row

__all__ = ["choose_columns", "to_document"]

_TEXT_NAMES = (
    *("text", "content", "document", "sentence", "body", "article", "review", "comment", "message", "story"),
    *("messages", "conversations"),
)
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "emotion", "y")
_WORD_NAMES = ("tokens", "words", "text", "sentence")
_TAG_NAMES = ("ner_tags", "tags", "labels", "ner", "pos_tags", "pos", "label", "upos", "chunk_tags")
_PAIR_NAMES = (
    ("source", "target"),
    ("src", "tgt"),
    ("input", "output"),
    ("inputs", "targets"),
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("article", "highlights"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("text", "target"),
)
_COMPARED_NAMES = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("query", "passage"),
)
_TURN_KEYS = (("role", "from"), ("content", "value", "text"))
_CLEARLY_LONGER = 3.0  # a column whose texts are this many times longer than those of any other is the text
_INDEX_COLUMN = "__index_level_0__"  # pandas adds it if rows have more fields than the header


def choose_columns(rows: Sequence[Row], task: str, options: DataOptions, source: str) -> Columns:
    """Choose the columns for ``task``: those in the options, else by usual names, else by content.

    Args:
        rows: The first rows of the table, flattened.
        task: The task of the model.
        options: May name the columns.
        source: Name of the table in messages.

    Raises:
        DataError: If a named column is missing, or the choice is ambiguous.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if _INDEX_COLUMN in names:
        raise DataError(
            f"The rows of {source} have more fields than its header, which has: {_list(names)}.",
            "Expected as many fields in a row as in the header.",
            "Quote fields that contain a comma, or correct the header.",
        )
    for key in ("text_column", "target_column", "label_column", "pair_column"):
        name = getattr(options, key)
        if name is not None and name not in names:
            raise DataError(
                f"{source} has no column {name} (data.{key}).{suggestion(name, names)}",
                f"Its columns: {_list(names)}.",
                f"Set data.{key} to one of them.",
            )
    textual = [name for name in names if _average_length(rows, name) > 0]
    if task == "token_classification":
        return _choose_tags(names, textual, options, source)
    if task == "sequence_classification":
        return _choose_labelled(rows, names, textual, options, source)
    if task == "seq2seq_lm":
        return _choose_pair_or_spans(rows, names, textual, options, source)
    if task == "causal_lm":
        pair = _named_pair(names, _PAIR_NAMES, options.text_column, options.target_column)
        has_text = _named(textual, _TEXT_NAMES) is not None or options.text_column is not None
        if options.target_column is not None or (pair is not None and not has_text):
            chosen = _choose_pair(names, textual, options, source)
            return Columns(chosen.text, target=chosen.target, is_joined=True)
    return Columns(options.text_column or _choose_text(rows, textual, names, source))


def to_document(row: Row, columns: Columns, location: Callable[[], str], *, has_tags: bool = False) -> Document:
    """Return the document of a flattened row.

    Args:
        row: The row.
        columns: Which columns to read.
        location: Returns file and row, for messages.
        has_tags: Whether text and label are lists: words and their tags.

    Raises:
        DataError: If the label is missing or has the wrong type.
    """
    if has_tags:
        return _tagged_document(row, columns, location)
    text = _text(row.get(columns.text))
    target = None if columns.target is None else _text(row.get(columns.target))
    if columns.is_joined:
        return Document(f"{text}\n{target}" if text and target else text or target or "")
    label = None if columns.label is None else _label(row.get(columns.label), columns.label, location)
    return Document(text, target, label, None if columns.pair is None else _text(row.get(columns.pair)))


def _tagged_document(row: Row, columns: Columns, location: Callable[[], str]) -> Document:
    assert columns.label is not None
    words, tags = _items(row.get(columns.text)), _items(row.get(columns.label))
    if len(words) != len(tags):
        raise DataError(
            f"{location()}: {len(words)} words (column {columns.text}) but {len(tags)} tags (column {columns.label}).",
            "Expected one tag for each word.",
            "Correct the row, or choose other columns with data.text_column and data.label_column.",
        )
    labels = tuple(_label(tag, str(columns.label), location) for tag in tags)
    # An empty word has no token to classify.
    kept = [(str(word), label) for word, label in zip(words, labels, strict=True) if str(word).strip()]
    words = tuple(word for word, _ in kept)
    return Document(" ".join(words), words=words, tags=tuple(label for _, label in kept))


def _items(value: Any) -> tuple[Any, ...]:
    """Return the items of a list, or the words of a text."""
    return tuple(value.split()) if isinstance(value, str) else tuple(value or ())


def _choose_text(rows: Sequence[Row], textual: list[str], names: list[str], source: str) -> str:
    known = _named(textual, _TEXT_NAMES)
    if known is not None:
        return known
    ranked = sorted(textual, key=lambda name: -_average_length(rows, name))
    if len(ranked) == 1:
        return ranked[0]
    if ranked and _average_length(rows, ranked[0]) >= _CLEARLY_LONGER * _average_length(rows, ranked[1]):
        return ranked[0]
    problem = "each of which could be the text" if ranked else "none of which contains text"
    raise DataError(
        f"{source} has the columns {_list(ranked or names)}, {problem}.",
        "Expected one column of text.",
        "Set data.text_column to its name.",
    )


def _choose_label(names: list[str], text: str | None, source: str) -> str:
    known = _named([name for name in names if name != text], _LABEL_NAMES)
    if known is not None:
        return known
    others = [name for name in names if name != (text or _named(names, _TEXT_NAMES))]
    if len(names) == 2 and len(others) == 1:
        return others[0]
    raise DataError(
        f"No column of {source} has the name of a label; its columns: {_list(names)}.",
        f"Expected one such as {', '.join(_LABEL_NAMES[:4])}.",
        "Set data.label_column to its name.",
    )


def _choose_labelled(
    rows: Sequence[Row], names: list[str], textual: list[str], options: DataOptions, source: str
) -> Columns:
    label = options.label_column or _choose_label(names, options.text_column, source)
    others = [name for name in textual if name != label]
    pair = _named_pair(others, _COMPARED_NAMES, options.text_column, options.pair_column)
    if pair is not None:
        return Columns(pair[0], label=label, pair=pair[1])
    others = [name for name in others if name != options.pair_column]
    return Columns(options.text_column or _choose_text(rows, others, names, source), None, label, options.pair_column)


def _choose_tags(names: list[str], textual: list[str], options: DataOptions, source: str) -> Columns:
    label = options.label_column or _named([name for name in names if name != options.text_column], _TAG_NAMES)
    words = options.text_column or _named([name for name in textual if name != label], _WORD_NAMES)
    if words is None or label is None:
        raise DataError(
            f"No column of {source} has the name of {'words' if words is None else 'tags'}; columns: {_list(names)}.",
            "Expected a list of words and a list of as many tags in each row, such as tokens and ner_tags.",
            "Set data.text_column and data.label_column to their names.",
        )
    return Columns(words, label=label)


def _choose_pair_or_spans(
    rows: Sequence[Row], names: list[str], textual: list[str], options: DataOptions, source: str
) -> Columns:
    """Return the columns of a pair, or of a text whose spans are hidden."""
    if options.span_corruption is None and options.target_column is None and len(textual) == 1:
        return Columns(textual[0])
    if options.span_corruption:
        return Columns(options.text_column or _choose_text(rows, textual, names, source))
    return _choose_pair(names, textual, options, source)


def _choose_pair(names: list[str], textual: list[str], options: DataOptions, source: str) -> Columns:
    text, target = options.text_column, options.target_column
    pair = _named_pair(names, _PAIR_NAMES, text, target)
    if pair is not None:
        return Columns(*pair)
    left = [name for name in textual if name not in (text, target)]
    if len(left) == sum(name is None for name in (text, target)):
        waiting = iter(left)
        return Columns(text or next(waiting), target or next(waiting))
    if text is not None and target is not None:
        return Columns(text, target)
    raise DataError(
        f"Source and target columns of {source} are ambiguous; its columns: {_list(names)}.",
        "Expected two columns of text, or one with data.span_corruption=true.",
        "Set data.text_column and data.target_column to their names.",
    )


def _named_pair(
    names: Sequence[str], known: Sequence[tuple[str, str]], first: str | None, second: str | None
) -> tuple[str, str] | None:
    """Return the first pair of usual names that is compatible with the options."""
    lowered = {name.lower(): name for name in reversed(names)}
    found = ((lowered[one], lowered[other]) for one, other in known if one in lowered and other in lowered)
    return next((pair for pair in found if first in (None, pair[0]) and second in (None, pair[1])), None)


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in known if name in lowered), None)


def _average_length(rows: Sequence[Row], name: str) -> float:
    """Return the average number of characters in a column; lists without text count as empty."""
    texts = [_text(row.get(name)) for row in rows if isinstance(row.get(name), str | list)]
    return sum(map(len, texts)) / max(len(rows), 1)


def _text(value: object) -> str:
    """Return the text of a cell: words are joined by spaces, a missing value is empty."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], Mapping):
            return "\n".join(filter(None, map(_turn, value)))
        return " ".join(item for item in value if isinstance(item, str))
    return str(value)


def _turn(message: Mapping[str, Any]) -> str:
    """Return a message of a conversation as a line: role and content."""
    role, content = (next((message[key] for key in keys if key in message), None) for keys in _TURN_KEYS)
    if isinstance(content, list | tuple):  # parts, some of which may be images
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
        content = "\n".join(part for part in parts if isinstance(part, str)) or None
    return "" if content is None else f"{role}: {content}" if role else str(content)


def _label(value: object, column: str, location: Callable[[], str]) -> int | str:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    raise DataError(
        f"{location()}: the label (column {column}) is {'missing' if missing else repr(value)}.",
        "Expected a class: a name or a whole number.",
        "Fill in or remove the row, or choose another column with data.label_column.",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
