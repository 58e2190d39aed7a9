"""What a tokenizer from someone else may cost: its text may not grow without bound, nor its tables."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import error_message

if TYPE_CHECKING:
    import tokenizers

__all__ = ["build_backend", "check_characters", "check_token", "check_tokenizer"]

MOST_GROWTH = 1000.0
"""Bytes that the steps of a tokenizer may make of one byte of a text; those of published ones reach about a hundred."""
MOST_STEPS = 64
"""Steps of the normalizer, of the pre-tokenizer, of the decoder, and parts of a template."""
LONGEST_TOKEN = 1024
"""Bytes of a token that merges lead to: every place in it is tried. The longest of published ones has 128."""
LARGEST_COUNT = 10_000
"""Characters of a word that a WordPiece model cuts: it tries every part."""
MOST_ADDED_BYTES = 4_000_000
"""Bytes of all added tokens after the normalizer: the library searches for them with about seventy bytes for each."""

# Bytes of a byte: U+FDFA in compatibility forms, decomposition, a byte above 127 as a letter.
_GROWTH = {"NFKC": 11.0, "NFKD": 11.0, "Precompiled": 11.0, "NFD": 3.0, "BertNormalizer": 3.0, "Lowercase": 1.5,
           "ByteLevel": 2.0, "Metaspace": 3.0}  # fmt: skip
_LONG_TEXT = 64
_LISTS = ("normalizers", "pretokenizers", "decoders", "processors")
_EMPTY_MATCH = re.compile(r"\(\?|\\[bBAzZGKR]|[\^$]")


def check_tokenizer(description: object) -> None:
    """Refuse a tokenizer.json whose steps multiply a text, or that breaks its library, before it is built.

    Args:
        description: Content of the file.

    Raises:
        ValueError: With the part and its limit.
    """
    if not isinstance(description, Mapping):
        raise ValueError("it is no object of JSON")
    growth = 1.0
    for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        # A decoder takes ids, not the text that the steps before have made.
        growth = 1.0 if part == "decoder" else growth
        for count, step in enumerate(_steps(description.get(part)), start=1):
            growth *= _growth_of(step)
            if count > MOST_STEPS:
                raise ValueError(f"its {part} has more than {MOST_STEPS} steps")
            if growth > MOST_GROWTH:
                raise ValueError(f"its {part} makes a text more than {MOST_GROWTH:,.0f} times as long")
        if part == "normalizer" and _added_bytes(description.get("added_tokens"), growth) > MOST_ADDED_BYTES:
            raise ValueError(f"its added tokens have more than {MOST_ADDED_BYTES:,} bytes")
    model = description.get("model")
    longest = model.get("max_input_chars_per_word") if isinstance(model, Mapping) else None
    if isinstance(longest, int) and longest > LARGEST_COUNT:
        raise ValueError(f"its model cuts words of more than {LARGEST_COUNT:,} characters")


def check_token(token: str | bytes) -> None:
    """Refuse a token that is too long to be cut at every place.

    Raises:
        ValueError: If it is.
    """
    if len(token) > LONGEST_TOKEN:
        raise ValueError(f"a token has {len(token):,} bytes, more than {LONGEST_TOKEN:,}")


def check_characters(table: bytes) -> None:
    """Refuse a table of characters (of sentencepiece) whose index is longer than the table.

    Raises:
        ValueError: If it is: the library asks for that much memory, and ends the process if there is none.
    """
    size = struct.unpack_from("<I", table)[0] if len(table) >= 4 else len(table)
    if size % 4 or size > len(table) - 4:
        raise ValueError("its table of characters is damaged")


def build_backend(text: str) -> tokenizers.Tokenizer:
    """Build the tokenizer that the text of a tokenizer.json describes.

    Raises:
        ValueError: If it is beyond the limits, or the library cannot read it.
    """
    import tokenizers

    check_tokenizer(json.loads(text))
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as err:
        # tokenizers raises bare Exception on a damaged file; a panic of Rust is an exception of no importable class.
        if type(err) is Exception or type(err).__name__ == "PanicException":
            raise ValueError(error_message(err, 200)) from err
        raise


def _added_bytes(tokens: object, growth: float) -> float:
    """Return the bytes of added tokens; those that are normalized grow as a text does."""
    total = 0.0
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, Mapping):
            size = len(str(token.get("content", "")).encode("utf-8", "replace"))
            total += size * (growth if token.get("normalized", True) else 1.0)
    return total


def _steps(step: object) -> Iterator[Mapping[str, Any]]:
    """Yield a step, those of a sequence, and the parts of a template."""
    if not isinstance(step, Mapping):
        return
    nested = next((step[name] for name in _LISTS if isinstance(step.get(name), list)), None)
    if nested is not None:
        yield {}
        for inner in nested:
            yield from _steps(inner)
        return
    yield step
    for name in ("single", "pair"):
        yield from ({} for _ in (step[name] if isinstance(step.get(name), list) else ()))


def _growth_of(step: Mapping[str, Any]) -> float:
    kind, content = str(step.get("type")), step.get("content")
    added = len(content.encode("utf-8", "replace")) if isinstance(content, str) else 0
    if kind == "Replace" and isinstance(step.get("pattern"), Mapping):
        literal = step["pattern"].get("String")
        if isinstance(literal, str) and literal:
            return max(1.0, added / len(literal.encode("utf-8", "replace")))
        return max(1.0, added + _may_match_nothing(str(step["pattern"].get("Regex", ""))))
    if kind == "Prepend":
        return max(1.0, len(str(step.get("prepend", "")).encode("utf-8", "replace")))
    if kind == "Precompiled":
        table = base64.b64decode(str(step.get("precompiled_charsmap") or ""))
        if table:
            check_characters(table)
        return _growth_of_table(table)
    return _GROWTH.get(kind, 1.0)


def _growth_of_table(table: bytes) -> float:
    """Return the growth by a table of characters; texts of usual ones are shorter than 64 bytes, for 3 bytes."""
    texts = table[4 + struct.unpack_from("<I", table)[0] :] if table else b""
    longest = max(map(len, texts.split(b"\0")))
    return float(longest) if longest >= _LONG_TEXT else _GROWTH["Precompiled"]


def _may_match_nothing(pattern: str) -> bool:
    try:
        return _EMPTY_MATCH.search(pattern) is not None or re.fullmatch(pattern, "") is not None
    except re.error:  # of the syntax of another library
        return True
