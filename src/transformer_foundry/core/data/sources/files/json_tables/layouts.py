"""Rows of a JSON object in one of the forms that people write: columns, records by their keys, answers of servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.roles import LABEL_NAMES, TEXT_NAMES, named, role_of, text_name
from transformer_foundry.core.data.sources.files.separated.header import default_names

__all__ = ["are_unnamed_texts", "rows_of_object", "to_row"]

_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "eval", "test", "holdout")
_CLASSES = frozenset(
    (
        *("pos", "neg", "positive", "negative", "neutral", "neu", "spam", "ham", "true", "false", "yes", "no"),
        *("fake", "real", "toxic", "safe", "other", "none"),
    )
)
_SHOWN = 40
_MANY_NAMES = 20


def rows_of_object(value: Mapping[str, Any], shown: str) -> tuple[Sequence[Any], str]:
    """Return the rows of a JSON object and its form in words, empty if it is plain."""
    if {"columns", "data"} <= value.keys() <= {"columns", "data", "index"} and isinstance(value["data"], list):
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]], ""
    if value.keys() == {"schema", "data"} and isinstance(value["data"], list):
        keys = value["schema"].get("primaryKey", []) if isinstance(value["schema"], dict) else []
        return [{name: cell for name, cell in row.items() if name not in keys} for row in value["data"]], ""
    lists = {name: item for name, item in value.items() if isinstance(item, list)}
    tables = {name: item for name, item in lists.items() if item and isinstance(item[0], dict)}
    viewed = tables.get("rows", [])
    if viewed and all(isinstance(row, dict) and {"row_idx", "row"} <= row.keys() for row in viewed):
        return [row["row"] for row in viewed], "an answer of the dataset viewer of the Hub"
    if len(tables) > 1:
        raise _several_tables(tables, shown)
    if tables:
        [(name, rows)] = tables.items()
        return rows, "" if len(value) == 1 else f"the records of its field {name}"
    if lists and len(lists) == len(value):
        if _are_classes(lists):
            texts = [{"text": text, "label": name} for name, items in lists.items() for text in items]
            return texts, f"a list of texts for each class ({short_list(list(lists), 4)})"
        if len({len(item) for item in lists.values()}) > 1:
            sizes = short_list([f"{name} {len(item)}" for name, item in lists.items()])
            raise DataError(f"{shown}: its columns have different lengths: {sizes}.", "Expected one.", "Correct it.")
        return [
            dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)
        ], "a list for each column"
    if value and all(isinstance(item, dict) for item in value.values()) and _is_table(list(value.values())):
        return _rows_of_nested(value, shown)
    if value and all(isinstance(item, str) for item in value.values()) and all(name.isdecimal() for name in value):
        return list(value.values()), "numbered texts"
    if len(value) > _MANY_NAMES and all(isinstance(item, str) for item in value.values()):
        return [{"key": key, "value": item} for key, item in value.items()], "pairs of key and value"
    inner = next(iter(value.values()), None)
    if len(value) == 1 and isinstance(inner, dict) and any(isinstance(item, list) for item in inner.values()):
        return rows_of_object(inner, shown)
    return [value], ""


def to_row(value: Any, number: int, shown: str, columns: Sequence[str] | None) -> Mapping[str, Any]:
    """Return a record as a row: an object, a text, or a list of values."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, list):
        names = default_names(len(value)) if columns is None else columns
        if len(names) == len(value):
            return dict(zip(names, value, strict=True))
        raise DataError(
            f"data.columns has {len(names)} names, but record {number} of {shown} has {len(value)} values.",
            "Expected a name for each value.",
            "Correct data.columns, or set it to null.",
        )
    raise DataError(
        f"{shown}, record {number}: not an object in braces, but {str(value)[:_SHOWN]}.",
        "Expected a list of objects.",
        "Correct the record.",
    )


def are_unnamed_texts(lists: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether lists hold texts, and none is called like a column or a split: their names may be classes."""
    names = list(lists)
    roles = [role_of(name, tuple(names)) for name in names]
    known = (*TEXT_NAMES, *LABEL_NAMES, *_SPLITS)
    is_named = any(role not in (None, "rejected") for role in roles) or named(names, known) is not None
    are_texts = all(isinstance(item, str) for items in lists.values() for item in items)
    return (
        len(lists) > 1 and min(map(len, lists.values())) > 1 and are_texts and not is_named and text_name(names) is None
    )


def _are_classes(lists: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether lists of texts are classes: columns have one length, and are not called pos and neg, or 0, 1."""
    if not are_unnamed_texts(lists):
        return False
    are_columns = len({len(items) for items in lists.values()}) == 1
    names = {name.strip().lower() for name in lists}
    return not are_columns or names <= _CLASSES or all(name.isdecimal() for name in names)


def _several_tables(tables: Mapping[str, Sequence[Any]], shown: str) -> DataError:
    longest = max(tables, key=lambda name: len(tables[name]))
    remedy = "Write each to a file of its own, such as train.jsonl and validation.jsonl, in one folder."
    if not all(name.lower() in _SPLITS for name in tables):
        remedy = f"Write the one with the texts to a file of its own: jq -c '.{longest}[]' A.json > A.jsonl"
    return DataError(
        f"{shown} holds {len(tables)} tables: {short_list(list(tables))}.", "Expected one list of records.", remedy
    )


def _is_table(items: list[Mapping[str, Any]]) -> bool:
    """Return whether objects have keys in common, as the rows or the columns of a table have."""
    common = set(items[0]).intersection(*items[1:])
    return bool(common) and len(common) >= 0.5 * max(len(item) for item in items) and len(items) > 1


def _rows_of_nested(value: Mapping[str, Mapping[str, Any]], shown: str) -> tuple[list[Mapping[str, Any]], str]:
    """Return the rows of an object of objects: rows by number, or columns by name with rows by number inside."""
    outer, inner = list(value), list(dict.fromkeys(key for item in value.values() for key in item))
    outer_numbered, inner_numbered = (all(key.isdecimal() for key in keys) for keys in (outer, inner))
    # Columns hold one type each, rows hold several.
    outer_mixed = any(len({type(cell) for cell in item.values() if cell is not None}) > 1 for item in value.values())
    is_rows = (outer_numbered, not inner_numbered) == (True, True) or (outer_mixed and not inner_numbered)
    is_columns = inner_numbered and not outer_numbered
    if not is_rows and not is_columns:
        is_rows, is_columns = len(outer) > 4 * len(inner), len(inner) > 4 * len(outer)
    if is_rows == is_columns:
        raise DataError(
            f"{shown} is an object of objects whose keys could be rows or columns: {short_list(outer[:3])}, in it"
            f" {short_list(inner[:3])}.",
            "Expected a list of records.",
            "Write it as records: pandas.read_json(A).to_json(B, orient='records', lines=True).",
        )
    if is_rows:
        return list(value.values()), "rows by their keys (orient=index of pandas)"
    rows: list[Mapping[str, Any]] = [{name: value[name].get(key) for name in outer} for key in inner]
    return rows, "columns by their names (orient=columns of pandas)"
