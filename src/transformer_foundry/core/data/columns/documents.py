"""Rows of a table as documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.columns.cells import (
    bytes_in,
    is_missing,
    is_record,
    item_text,
    parse_list,
    read_turns,
    text_of,
)
from transformer_foundry.core.data.columns.prompts.template import parse_template
from transformer_foundry.core.data.columns.roles import TOKEN_NAMES, role_of
from transformer_foundry.core.data.columns.rows.annotations import RESPONSES
from transformer_foundry.core.data.columns.rows.numbers import read_flag, read_number
from transformer_foundry.core.data.columns.targets import IN_BRACKETS
from transformer_foundry.core.data.columns.token_ids import to_id_document
from transformer_foundry.core.data.document import Columns, Document

__all__ = ["to_document"]

Span = tuple[int, int]
"""Start and end in a text, in characters."""

_ASSISTANTS = frozenset(("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai", "agent"))


def to_document(
    row: Mapping[str, Any], columns: Columns, location: Callable[[], str], *, has_tags: bool = False
) -> Document:
    """Return the document of a flattened row.

    Args:
        row: The row.
        columns: Which columns to read.
        location: Returns file and row, for messages.
        has_tags: Whether text and label are lists: words and their tags.

    Raises:
        DataError: If the label is missing or has the wrong type, or a cell is binary.
    """
    if bytes_in(list(row.values())) is not None:
        _require_text(row, columns, location)
    if has_tags:
        return _tagged_document(row, columns, location)
    if columns.vocab_size is not None:
        return to_id_document(row, columns, location, _targets)
    if columns.template is not None:
        return _prompt_document(row, columns, columns.template)
    text = text_of(row.get(columns.text))
    target = None if columns.target is None else text_of(row.get(columns.target))
    pair = None if columns.pair is None else text_of(row.get(columns.pair))
    if columns.label is None and not columns.flags:
        return Document(text, target, pair=pair)
    return replace(_targets(row, columns, location), text=text, target=target, pair=pair)


def _require_text(row: Mapping[str, Any], columns: Columns, location: Callable[[], str]) -> None:
    for name in columns.names():
        found = bytes_in(row.get(name))
        if found is not None:
            raise DataError(
                f"{location()}: column {name} has bytes that are no text in UTF-8 ({found[:12]!r}).",
                "Expected text, or bytes of text in UTF-8.",
                "Decode the column and write it as text, or choose another column.",
            )


def _targets(row: Mapping[str, Any], columns: Columns, location: Callable[[], str]) -> Document:
    """Return a document with only what is learned about a text: its class, its labels or its number."""
    if columns.targets == "number":
        return Document("", number=_number(row.get(str(columns.label)), str(columns.label), location))
    if columns.targets == "names":
        return Document("", present=_label_names(row.get(str(columns.label)), columns, location))
    if columns.targets in ("columns", "flags"):
        flags = _flags(row, columns, location)
        present, unknown = (tuple(at for at, flag in enumerate(flags) if flag == value) for value in (1, -1))
        return Document("", present=present, unknown=unknown)
    return Document(
        "", label=None if columns.label is None else _label(row.get(columns.label), columns.label, location)
    )


def _prompt_document(row: Mapping[str, Any], columns: Columns, template: str) -> Document:
    parsed, target = parse_template(template), columns.target
    values = {name: _part(name, row.get(name)) for name in parsed.names}
    inner: list[Span] = []
    muted: list[Span] = []
    if target is not None:
        values[target], inner, muted = _answer(target, row.get(target))
    text, starts = parsed.render(values)
    first = starts.get(target or "")
    answers = () if first is None else tuple((first + start, first + end) for start, end in inner)
    if answers and target == parsed.names[-1] and answers[-1][1] + len(parsed.tail) == len(text):
        answers = (*answers[:-1], (answers[-1][0], len(text)))  # the end of the template belongs to the answer
    if not columns.is_joined:
        start, end = answers[-1] if answers else (len(text), len(text))
        return Document(text[:start].rstrip(), target=text[start:end].rstrip("\n"))
    if columns.learned == "answers":
        return Document(text if answers else "", answers=answers)
    if columns.learned == "weighted":
        learned = _without([(start + (first or 0), end + (first or 0)) for start, end in muted], len(text))
        return Document(text if learned else "", answers=learned)
    return Document(text)


def _part(name: str, value: object) -> str:
    """Return the text of a part of a prompt: the items of a list, such as choices, on a line each, words in one."""
    if isinstance(value, list | tuple) and read_turns(value) is None and name.lower() not in TOKEN_NAMES:
        texts = [text for text in (item_text(item) or text_of(item) for item in value) if text.strip()]
        # Lines of a notebook have their ends.
        return "".join(value) if _are_lines(value) else "\n".join(texts)
    return text_of(value)


def _are_lines(value: Sequence[object]) -> bool:
    return all(isinstance(item, str) for item in value) and any(str(item).endswith("\n") for item in value)


def _answer(name: str, value: object) -> tuple[str, list[Span], list[Span]]:
    """Return the text of an answer, the parts of it to learn and the messages that are not learned.

    To learn is all of it, or what the assistant says, but no message whose weight is 0.
    """
    turns = read_turns(value)
    if turns is None:
        if (
            isinstance(value, list | tuple) and role_of(name, ("q", name)) == "answer"
        ):  # of several references the first
            value = next((item for item in map(item_text, value) if item.strip()), "")
        text = _part(name, value)
        return text, [(0, len(text))] if text.strip() else [], []
    roles = [turn.role.lower() for turn in turns]
    speakers = _ASSISTANTS.intersection(roles) or set(roles[-1:])
    text, spans, muted = "", [], []
    for turn, role in zip(turns, roles, strict=True):
        begins = len(text)
        text += ("\n" if text else "") + (f"{turn.role}: " if turn.role else "")
        end = len(text) + len(turn.content) + 1  # with the line break that ends it
        if not turn.is_learned:
            muted.append((begins, end - 1))
        elif role in speakers:
            spans.append((len(text), end))
        text += turn.content
    return text, [(start, min(end, len(text))) for start, end in spans], muted


def _without(muted: Sequence[Span], length: int) -> tuple[Span, ...]:
    """Return the spans of a text that are left between others."""
    starts, ends = [0, *(end for _, end in muted)], [*(start for start, _ in muted), length]
    return tuple((start, end) for start, end in zip(starts, ends, strict=True) if start < end)


def _tagged_document(row: Mapping[str, Any], columns: Columns, location: Callable[[], str]) -> Document:
    assert columns.label is not None
    words, tags = (_items(row.get(name), name, location) for name in (columns.text, columns.label))
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


def _items(value: Any, column: str, location: Callable[[], str]) -> tuple[Any, ...]:
    """Return the items of a list, also of one written as text, or the words of a text."""
    found = parse_list(value)
    if found is not None:
        return tuple(found)
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        raise DataError(
            f"{location()}: column {column} holds a list that cannot be read: {value[:60]!r}.",
            'Expected a JSON or Python list, such as ["a", "b"].',
            "Write the table again with json.dumps for this column, or as jsonl or parquet.",
        )
    return tuple(value.split()) if isinstance(value, str) else ()


def _number(value: object, column: str, location: Callable[[], str]) -> float:
    number = read_number(value)
    if number is not None:
        return number
    raise DataError(
        f"{location()}: the number (column {column}) is {'missing' if is_missing(value) else repr(value)[:60]}.",
        "Expected a finite number, such as 3.8.",
        "Fill in or remove the row, or choose another column with data.label_column.",
    )


def _label_names(value: object, columns: Columns, location: Callable[[], str]) -> tuple[int | str, ...]:
    """Return the labels in a cell, each once: the items of a list, or names joined by a separator; none in an empty."""
    column = str(columns.label)
    if is_missing(value):
        return ()
    items = parse_list(value)
    if items is None:
        text = str(value).strip("<>") if columns.separator == IN_BRACKETS else str(value)
        items = [value] if columns.separator is None else text.split(columns.separator)
        items = [item for item in items if not isinstance(item, str) or item.strip()]
    return tuple(dict.fromkeys(_label(item, column, location) for item in items))


def _flags(row: Mapping[str, Any], columns: Columns, location: Callable[[], str]) -> list[int]:
    """Return 1, 0 or -1 (unknown) for each label of a row."""
    if columns.targets == "columns":
        cells, where = [row.get(name) for name in columns.flags], "column " + ", ".join(columns.flags[:4])
    else:
        cells, where = parse_list(row.get(str(columns.label))) or [], f"column {columns.label}"
    flags = [read_flag(cell) for cell in cells]
    wrong = next((cell for cell, flag in zip(cells, flags, strict=True) if flag is None), None)
    if wrong is not None or len(cells) != (len(columns.flags) or columns.flag_count):
        problem = f"the labels ({where}) are {str(cells)[:60]}" if wrong is None else f"a label ({where}) is {wrong!r}"
        raise DataError(
            f"{location()}: {problem}.",
            f"Expected {len(columns.flags) or columns.flag_count} values of 0 and 1, or -1 where it is not known.",
            "Correct the row, or name the columns of 0 and 1 in data.label_columns.",
        )
    return [flag for flag in flags if flag is not None]


def _label(value: object, column: str, location: Callable[[], str]) -> int | str:
    if isinstance(value, float) and value.is_integer():
        # 1E4 and 10E3 are two codes, 1.0 and 1 are one number.
        written = str(value)
        return written if "e" in written.lower() else int(value)
    if isinstance(value, bool | int):
        return int(value)
    items = parse_list(value)
    if items is not None and len(items) == 1 and column.endswith(RESPONSES):
        return _label(items[0], column, location)
    if items is not None:
        raise DataError(
            f"{location()}: the label (column {column}) is a list: {str(value)[:60]}.",
            "Expected one class a text, as in the first rows.",
            "Correct the row, or set model.task=multi_label_classification to learn several labels a text.",
        )
    if isinstance(value, Mapping) or (isinstance(value, str) and is_record(value)):
        raise DataError(
            f"{location()}: the label (column {column}) is a record: {str(value)[:60]}.",
            "Expected a class: a name or a whole number.",
            "Write the class into a column of its own, and name that in data.label_column.",
        )
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise DataError(
        f"{location()}: the label (column {column}) is {'missing' if is_missing(value) else repr(value)}.",
        "Expected a class: a name or a whole number; a model with one output learns other numbers.",
        "Fill in or remove the row, or choose another column with data.label_column.",
    )
