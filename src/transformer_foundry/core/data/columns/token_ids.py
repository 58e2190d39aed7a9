"""Columns of token ids that were made elsewhere: which they are, and their rows as documents.

A document of ids is a text of decimal numbers between blanks, so that splits, packing and samples need nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import is_missing, parse_list
from transformer_foundry.core.data.columns.targets import choose_targets
from transformer_foundry.core.data.document import STREAM_COLUMN, Columns, Document
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.models.options import TEXT_TASKS

__all__ = ["choose_ids", "find_ids", "ids_as_characters", "to_id_document"]

_NAMES = ("input_ids", "ids", "token_ids", "tokens", "text", "codes", "input", "source", "source_ids")
_TARGETS = ("labels", "target_ids", "target", "decoder_input_ids", "output_ids", "output", "tgt")
_MASK = "attention_mask"
_LABELS_OF_IDS = "labels"
_NOT_LEARNED = -100
_MOSTLY = 0.5  # share of the rows
_FIRST_CHARACTER = 0x100
_SURROGATES, _AFTER_SURROGATES = 0xD800, 0xE000

Rows = Sequence[Mapping[str, Any]]
_TargetReader = Callable[[Mapping[str, Any], Columns, Callable[[], str]], Document]


def find_ids(rows: Rows) -> list[str]:
    """Return the columns whose cells are lists of whole numbers, also lists written as text."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name != _MASK and _holds_ids(rows, name)]


def choose_ids(
    rows: Rows, names: list[str], task: str, options: DataOptions, source: str, num_labels: int | None = None
) -> Columns:
    """Return the columns of token ids for a task, and of their targets, classes, labels or numbers.

    Raises:
        DataError: If there is none, several could be meant, or the task reads no ids.
    """
    used = {f"the task {task}": task == "token_classification", "data.template": options.template is not None}
    used |= {"data.loss_on": options.loss_on != "all", "data.pair_column": options.pair_column is not None}
    if any(used.values()):
        key = next(key for key, is_used in used.items() if is_used)
        raise DataError(
            f"data.vocab_size says that {source} holds token ids, which {key} does not support.",
            "Expected text, whose words and answers have places.",
            "Set data.source to the text and data.vocab_size to null.",
        )
    found = find_ids(rows)
    text = options.text_column or next((name for name in (STREAM_COLUMN, *_NAMES) if name in found), None)
    if text is None and len(found) == 1:
        text = found[0]
    if text is None or text not in found:
        what = "several columns of token ids" if text is None and found else f"no token ids in {text or 'its columns'}"
        raise DataError(
            f"data.vocab_size is set, but {source} has {what}; its columns: {short_list(names)}.",
            "Expected a column of lists of whole numbers, such as input_ids.",
            "Set data.text_column to it; for text, set data.vocab_size to null: its tokenizer fills that of the model.",
        )
    mask = _MASK if _MASK in names and text == "input_ids" else None
    warnings, target, chosen = [], None, Columns(text)
    if task in TEXT_TASKS:
        others, named = [name for name in names if name != mask], replace(options, text_column=text)
        chosen = choose_targets(rows, others, task, named, source, lambda *_: text, num_labels)
    elif task == "seq2seq_lm" and options.span_corruption is not True:
        target = options.target_column or next((name for name in _TARGETS if name in found and name != text), None)
    elif text != _LABELS_OF_IDS and _marks_unlearned(rows, mask):
        warnings.append(
            f"Column {_LABELS_OF_IDS} leaves ids out of the loss (-100), which is not read: all ids are learned."
        )
    padding = _find_padding(rows, text) if mask is None and text != STREAM_COLUMN else None
    if padding is not None:
        warnings.append(
            f"Most rows of column {text} end in several ids {padding}, as padding does: they are learned; remove them,"
            " or add a column attention_mask."
        )
    chosen = replace(chosen, target=target, vocab_size=options.vocab_size, mask=mask)
    left = tuple(name for name in names if name not in chosen.names())
    return replace(chosen, left_out=left, warnings=tuple(warnings))


def _find_padding(rows: Rows, name: str) -> int | None:
    """Return the id with which most rows, all of one length, end at least twice; None if there is none."""
    lists = [ids for row in rows if (ids := _ids(row.get(name)))]
    ends = Counter(ids[-1] for ids in lists if len(ids) > 1 and ids[-1] == ids[-2])
    if not ends or len({len(ids) for ids in lists}) > 1:
        return None
    [(found, count)] = ends.most_common(1)
    return found if count > _MOSTLY * len(lists) else None


def to_id_document(
    row: Mapping[str, Any], columns: Columns, location: Callable[[], str], read_targets: _TargetReader
) -> Document:
    """Return the document of a row of ids.

    Raises:
        DataError: If a cell holds something else, or an id that is not below ``vocab_size``.
    """
    text = _read(row, columns.text, columns, location, row.get(columns.mask) if columns.mask else None)
    target = None if columns.target is None else _read(row, columns.target, columns, location)
    return replace(read_targets(row, columns, location), text=text, target=target)


def ids_as_characters(text: str) -> str:
    """Return a text of decimal ids with one character for each id: pieces of it are then as telling as those of text.

    Example:
        >>> len(ids_as_characters("17 50256 3"))
        3
    """
    numbers = (int(number) + _FIRST_CHARACTER for number in text.split())
    shift = _AFTER_SURROGATES - _SURROGATES
    return "".join(chr(number if number < _SURROGATES else number + shift) for number in numbers)


def _read(row: Mapping[str, Any], name: str, columns: Columns, location: Callable[[], str], mask: object = None) -> str:
    ids = _ids(row.get(name))
    if ids is None:
        raise DataError(
            f"{location()}: column {name} holds {str(row.get(name))[:60]!r}, no token ids.",
            "Expected a list of whole numbers, as in the first rows.",
            "Correct the row.",
        )
    if isinstance(mask, list | tuple) and len(mask) == len(ids):  # padding
        ids = [number for number, is_real in zip(ids, mask, strict=True) if is_real]
    if name == columns.target:
        ids = [number for number in ids if number != _NOT_LEARNED]
    assert columns.vocab_size is not None
    if ids and not 0 <= min(ids) <= max(ids) < columns.vocab_size:
        place = next(place for place, number in enumerate(ids) if not 0 <= number < columns.vocab_size)
        raise DataError(
            f"{location()}: id {ids[place]} at position {place + 1} of column {name} is not between 0 and"
            f" {columns.vocab_size - 1}.",
            f"Expected ids below data.vocab_size ({columns.vocab_size}).",
            "Set data.vocab_size to the number of ids of the tokenizer that made the data, or correct the row.",
        )
    return " ".join(map(str, ids))


def _ids(value: object) -> list[int] | None:
    """Return the ids of a cell: a list, one that is written as text, or numbers between blanks or commas."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        items = parse_list(value)
        if items is None:
            words = value.replace(",", " ").split()
            is_written = all(word.isascii() and word.isdecimal() for word in words)
            items = [int(word) for word in words] if is_written else None
        value = items
    elif is_missing(value):
        value = []
    elif type(value) is int:
        value = [value]
    if not isinstance(value, list | tuple):
        return None
    return list(value) if all(type(item) is int for item in value) else None


def _holds_ids(rows: Rows, name: str) -> bool:
    values = [row.get(name) for row in rows if not is_missing(row.get(name))]
    if not values or all(type(value) is int for value in values):
        return False
    return all(_ids(value) is not None for value in values)


def _marks_unlearned(rows: Rows, mask: str | None) -> bool:
    for row in rows:
        labels = row.get(_LABELS_OF_IDS)
        if isinstance(labels, list | tuple):
            real = row.get(mask) if mask else None
            kept = zip(labels, real, strict=False) if isinstance(real, list | tuple) else ((one, 1) for one in labels)
            if any(label == _NOT_LEARNED and is_real for label, is_real in kept):
                return True
    return False
