"""Cells of a table as text: texts, lists, conversations, numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from transformer_foundry.core.base.python_text import parse_literal

__all__ = [
    "Turn",
    "average_length",
    "bytes_in",
    "decode_text",
    "has_weights",
    "is_missing",
    "is_record",
    "item_text",
    "items_of",
    "parse_list",
    "read_turns",
    "text_of",
    "unread_items",
]

_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text", "message")
_INNER_KEYS = (*_CONTENT_KEYS, "parts", "body")
"""Keys of the text in a content that is a record itself; ``parts`` is that of ChatGPT's own export."""
_CALL_KEYS = ("tool_calls", "function_call")
_TOOL_ROLES = frozenset(("tool", "function", "tool_result", "observation"))
# Whether a message is learned, as OpenAI (weight), axolotl (train, training) and others (loss) write it.
_WEIGHT_KEYS = ("weight", "train", "training", "loss", "loss_weight")
_NOT_LEARNED = (0, "0", "0.0", "false", "False")
# Pieces of one sentence, as messengers write links and styles.
_INLINE_TYPES = frozenset(
    (
        *("plain", "bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre", "blockquote"),
        *("link", "text_link", "mention", "mention_name", "hashtag", "cashtag", "bot_command", "custom_emoji"),
        *("email", "phone", "bank_card"),
    )
)
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_LONGEST_LITERAL = 100_000  # characters; a longer cell is text
_LISTS = re.compile(r"\s*[\[({].*[\])}]\s*", re.DOTALL)
# numpy prints ['a' 'b'], which Python reads as the one string 'ab'.
_NUMBERS = re.compile(r"\s*\[\s*-?\d[\d.\s-]*\]\s*")
_WITHOUT_COMMA = re.compile(r"(['\"])\s+\1|\d\s+[-+.\d]")
_BETWEEN_ITEMS = re.compile(r"\}\s+\{")


class Turn(NamedTuple):
    """A message: who says what, and whether its weight says that it is learned."""

    role: str
    content: str
    is_learned: bool = True


def text_of(value: object) -> str:
    """Return the text of a cell: words are joined by blanks, longer texts by line breaks; a missing value is empty."""
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, list | tuple):
        turns = read_turns(value)
        if turns is not None:
            return "\n".join(f"{turn.role}: {turn.content}" if turn.role else turn.content for turn in turns)
        if _is_inline(value):
            return _content(value)
        texts = [text for text in (item_text(item) for item in value) if text]
        if any(text.endswith("\n") for text in texts):  # lines with their ends, as in notebooks
            return "".join(texts)
        return ("\n" if any(" " in text.strip() for text in texts) else " ").join(texts)
    return str(value)


def bytes_in(value: object) -> bytes | None:
    """Return the first bytes in a cell, also within its lists; None if it has none.

    Example:
        >>> bytes_in(["a", {"b": b"\\x89"}]), bytes_in(["a", 1])
        (b'\\x89', None)
    """
    if isinstance(value, bytes):
        return value
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    # Lists of numbers may be long.
    if {bytes, list, dict}.isdisjoint(map(type, items)):
        return None
    return next((found for found in map(bytes_in, items) if found is not None), None)


def decode_text(value: Any) -> Any:
    """Return a value with text in place of bytes that are text in UTF-8; other bytes stay, as pictures do.

    Example:
        >>> decode_text("Zürich".encode()), decode_text([None, b"a"]), decode_text(b"\\x89PNG")
        ('Zürich', [None, 'a'], b'\\x89PNG')
    """
    if isinstance(value, list):
        first = next((item for item in value if item is not None), None)
        # Lists of numbers may be long.
        return [decode_text(item) for item in value] if isinstance(first, bytes | list | dict) else value
    if isinstance(value, dict):
        return {key: decode_text(item) for key, item in value.items()}
    if not isinstance(value, bytes):
        return value
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return value
    return value if _NO_TEXT.search(text) else text


def is_missing(value: object) -> bool:
    """Return whether a cell is empty: None, NaN or no text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def read_turns(value: object) -> list[Turn] | None:
    """Return the messages of a conversation; None if the cell holds none.

    A message is a mapping of a role (``role`` or ``from``) and a content (``content`` or ``value``), which may consist
    of parts. A call of a tool is written as its name and arguments. A cell may hold the conversation as JSON.
    """
    items = items_of(value)
    if not _are_messages(items):
        return None
    turns = (Turn(str(_first(item, _ROLE_KEYS) or ""), _said(item), _is_learned(item)) for item in items)
    return [turn for turn in turns if turn.content]


def has_weights(value: object) -> bool:
    """Return whether a cell holds a conversation whose messages say whether they are learned."""
    items = items_of(value)
    return _are_messages(items) and any(_used(item, _WEIGHT_KEYS) for item in items)


def items_of(value: object) -> list[Mapping[str, Any]]:
    """Return the records of a list, also of one that is written as text; empty if the cell holds none."""
    if isinstance(value, str):
        # Between two messages, numpy prints a line break and no comma.
        is_list = value.lstrip().startswith("[") and "{" in value[:_LONGEST_LITERAL]
        value = _literal(_BETWEEN_ITEMS.sub("}, {", value)) if is_list else None
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        return []
    return list(value)


def unread_items(value: object, *, weights_are_read: bool) -> Iterator[tuple[str, Any]]:
    """Yield key and value of what the text of a cell with records leaves out.

    Parts of the content of a message have keys such as ``content[].image_url``.
    """
    items = items_of(value)
    are_messages = _are_messages(items)
    for item in items:
        used = {_used(item, _CONTENT_KEYS)}
        if are_messages:
            used |= {_used(item, _ROLE_KEYS), *_CALL_KEYS, *(_WEIGHT_KEYS if weights_are_read else ())}
        yield from ((key, inner) for key, inner in item.items() if key not in used and not _is_empty(inner))
        content = _first(item, _CONTENT_KEYS)
        content = [content] if isinstance(content, Mapping) and not _is_result(item) else content
        for part in content if are_messages and isinstance(content, list | tuple) else ():
            if isinstance(part, Mapping) and not _part(part):
                kept = {key: inner for key, inner in part.items() if key != "type" and not _is_empty(inner)}
                kind = str(part.get("type") or next(iter(kept), "empty"))
                text = next((inner for inner in kept.values() if isinstance(inner, str)), None)
                if kept:
                    yield f"content[].{kind}", text if text is not None and " " in text.strip() else kept


def _are_messages(items: Sequence[Mapping[str, Any]]) -> bool:
    if not items or not any(key in items[0] for key in _ROLE_KEYS):
        return False
    return any(key in items[0] for key in (*_CONTENT_KEYS, *_CALL_KEYS))


def _is_learned(item: Mapping[str, Any]) -> bool:
    weight = _first(item, _WEIGHT_KEYS)
    return is_missing(weight) or weight not in _NOT_LEARNED


def parse_list(value: object) -> list[Any] | None:
    """Return the items of a list, also of one that is written as text in the cell; None if it is none.

    A set of Python is one too, in the order of its items, and so are several choices as Label Studio writes them.

    Example:
        >>> parse_list("['a', 'b']"), parse_list("[1, 0]"), parse_list("a word")
        (['a', 'b'], [1, 0], None)
        >>> parse_list("{'b', 'a'}"), parse_list('{"choices": ["a", "b"]}')
        (['a', 'b'], ['a', 'b'])
    """
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or not _LISTS.fullmatch(value):
        return None
    if _NUMBERS.fullmatch(value):  # as numpy prints them, without commas
        value = re.sub(r"\s+", ", ", value.strip("[] \n\t")).join("[]")
    if _WITHOUT_COMMA.search(value[:_LONGEST_LITERAL]):
        return None
    found = _literal(value)
    if isinstance(found, Mapping) and found.keys() == {"choices"}:
        found = found["choices"]
    if isinstance(found, set):
        found = sorted(found, key=str)
    return list(found) if isinstance(found, list | tuple) else None


def is_record(text: str) -> bool:
    """Return whether a text is a record, or a list of records, of JSON or Python.

    Example:
        >>> is_record('{"a": 1}'), is_record("[{'a': 1}]"), is_record("{a}")
        (True, True, False)
    """
    if text.lstrip()[:1] not in ("{", "["):
        return False
    found = _literal(text)
    return isinstance(found, Mapping) or bool(items_of(found))


def average_length(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the average number of characters in a column; lists without text count as empty."""
    values = (row.get(name) for row in rows)
    return sum(len(text_of(value)) for value in values if isinstance(value, str | list)) / max(len(rows), 1)


def _literal(text: str) -> Any:
    """Return the value of a JSON or Python literal; None if the text is none."""
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return parse_literal(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def item_text(item: object) -> str:
    """Return the text of an item of a list: itself, its content if it is a mapping, or the lines of an inner list."""
    if isinstance(item, list | tuple):
        return "\n".join(text for text in map(item_text, item) if text)
    if isinstance(item, Mapping):
        return _content(_first(item, _CONTENT_KEYS))
    return item if isinstance(item, str) else ""


def _content(content: Any) -> str:
    if isinstance(content, Mapping):
        return _part(content)
    if isinstance(content, list | tuple):  # parts, some of which may be images
        return ("" if _is_inline(content) else "\n").join(part for part in map(_part, content) if part)
    return "" if is_missing(content) else str(content)


def _is_inline(parts: Sequence[Any]) -> bool:
    """Return whether parts are pieces of one sentence, which have their own blanks."""
    return any(isinstance(part, Mapping) and "text" in part and part.get("type") in _INLINE_TYPES for part in parts)


def _part(part: Any) -> str:
    if not isinstance(part, Mapping):
        return part if isinstance(part, str) else ""
    if part.get("name") and "input" in part:  # of the type tool_use
        return _call(part)
    text = next((part[key] for key in _INNER_KEYS if part.get(key)), None)
    return _content(text) if isinstance(text, str | list | tuple | Mapping) else ""


def _said(item: Mapping[str, Any]) -> str:
    """Return the content of a message, then the tools that it calls."""
    calls = [call for key in _CALL_KEYS for call in _calls(item.get(key))]
    content = _first(item, _CONTENT_KEYS)
    said = json.dumps(content, ensure_ascii=False) if _is_result(item) else _content(content)
    return "\n".join(text for text in (said, *map(_call, calls)) if text)


def _is_result(item: Mapping[str, Any]) -> bool:
    """Return whether a message is the result of a tool, a record of values and no text."""
    content = _first(item, _CONTENT_KEYS)
    return isinstance(content, Mapping) and not _part(content) and _first(item, _ROLE_KEYS) in _TOOL_ROLES


def _calls(value: Any) -> list[Any]:
    if is_missing(value):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _call(call: Any) -> str:
    """Return a call as ``name(arguments)``."""
    if not isinstance(call, Mapping):
        return "" if is_missing(call) else str(call)
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    arguments = _first(function, ("arguments", "input", "parameters"))
    if isinstance(arguments, Mapping):  # arrow adds the arguments of other calls, as None
        arguments = json.dumps(
            {key: value for key, value in arguments.items() if value is not None}, ensure_ascii=False
        )
    return f"{function.get('name') or ''}({'' if is_missing(arguments) else arguments})"


def _used(item: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in item), None)


def _is_empty(value: object) -> bool:
    return is_missing(value) or value in ([], {}, ())


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if key in item), None)
