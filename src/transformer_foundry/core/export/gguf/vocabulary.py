"""The tokenizer of a package as llama.cpp reads it: byte-level BPE with a pre-tokenizer that llama.cpp knows by name.

Whatever llama.cpp would read in another way is refused: a tokenizer that is nearly right gives the model other tokens
than those it was trained with, without any error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

from transformer_foundry.core.data.tokenizer.byte_level import byte_alphabet
from transformer_foundry.core.export.gguf.file import Value
from transformer_foundry.core.export.gguf.layout import Unwritable

__all__ = ["TokenType", "describe_vocabulary"]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The expressions of the tokenizers of Llama 3 and Qwen2 -> llama.cpp's name of them.
_SPLITS = {
    _CONTRACTIONS + _WORDS.replace("NUMBERS", "{1,3}"): "llama-bpe",
    _CONTRACTIONS + _WORDS.replace("NUMBERS", ""): "qwen2",
}
# llama.cpp takes a word that is a token as it is, without merges, for this one.
_IGNORES_MERGES = ("llama-bpe",)
# Without an id of the end, llama.cpp takes token 11, whatever it is.
_UNUSED = "[PAD{}]"


class TokenType(IntEnum):
    """Types of tokens in GGUF."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


def describe_vocabulary(folder: Path, manifest: Mapping[str, Any], vocab_size: int) -> dict[str, Value]:
    """Return the metadata of a tokenizer.

    Args:
        folder: A folder with ``tokenizer.json`` and, where there is a chat template, ``tokenizer_config.json``.
        manifest: The manifest of the package: ``special_token_ids``, ``encoding``.
        vocab_size: Rows of the model's embedding: llama.cpp wants a token for each.

    Raises:
        Unwritable: If llama.cpp cannot read such a tokenizer as it is.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise Unwritable("the package has no tokenizer.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    model, pre = written["model"], _pre_tokenizer(written)
    _need_plain_bpe(model, pre)
    tokens, types = _tokens(written, vocab_size, ignores_merges=pre in _IGNORES_MERGES)
    special, prefix = manifest["special_token_ids"], manifest["encoding"]["prefix"]
    if special["eos"] is None:
        raise Unwritable("its tokenizer has no token that ends a text, and llama.cpp would take another one for it")
    if len(prefix) > 1:
        raise Unwritable("its texts begin with several tokens, and llama.cpp adds one")
    roles = {"bos": prefix[0] if prefix else special["bos"], "eos": special["eos"], "unknown": special["unk"]}
    # A tokenizer without padding has a number in the manifest too, which is an ordinary token.
    roles["padding"] = special["pad"] if types[special["pad"]] == TokenType.CONTROL else None
    if roles["bos"] is None:
        roles["bos"] = special["eos"]  # it is not added, and llama.cpp would take token 11 for it
    ids = {f"tokenizer.ggml.{role}_token_id": number for role, number in roles.items() if number is not None}
    described: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": _merges(model),
        **ids,
        "tokenizer.ggml.add_bos_token": bool(prefix),
        "tokenizer.ggml.add_eos_token": False,
    }
    template = _chat_template(folder)
    return described | ({"tokenizer.chat_template": template} if template else {})


def _pre_tokenizer(written: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of the pre-tokenizer."""
    if written["model"]["type"] != "BPE":
        raise Unwritable(f"its tokenizer is a {written['model']['type']}, and this file holds byte-level BPE")
    normalizer = written.get("normalizer")
    if normalizer is not None and normalizer.get("normalizers") != []:
        raise Unwritable(f"its tokenizer changes texts first ({normalizer['type']}), and llama.cpp does not")
    found = written.get("pre_tokenizer") or {"type": "no pre-tokenizer"}
    parts = found.get("pretokenizers", [found])
    last = parts[-1] if parts else found
    if last["type"] != "ByteLevel":
        raise Unwritable(f"its tokenizer splits texts by {last['type']}, and llama.cpp reads bytes")
    if last.get("add_prefix_space"):
        raise Unwritable("its tokenizer adds a space before each text, and llama.cpp does not")
    splits, uses_expression = parts[:-1], last.get("use_regex", True)
    if not splits and uses_expression:
        return "gpt-2"
    if len(splits) == 1 and not uses_expression and splits[0]["type"] == "Split":
        split = splits[0]
        name = _SPLITS.get(split["pattern"].get("Regex", ""))
        if name and split["behavior"] == "Isolated" and not split["invert"]:
            return name
    raise Unwritable("its tokenizer splits texts into words in a way that llama.cpp has no name for")


def _need_plain_bpe(model: Mapping[str, Any], pre: str) -> None:
    odd = [key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    odd += [key for key in ("byte_fallback",) if model.get(key)]
    if bool(model.get("ignore_merges")) != (pre in _IGNORES_MERGES):
        odd.append("ignore_merges")
    if odd:
        raise Unwritable(f"its tokenizer's {odd[0]} is {model.get(odd[0])}, which llama.cpp does not do here")
    if not model["merges"]:
        raise Unwritable("its tokenizer has no merges, and llama.cpp wants some")
    if missing := [character for character in byte_alphabet() if character not in model["vocab"]]:
        raise Unwritable(f"its tokenizer lacks {len(missing)} of the bytes of UTF-8, and llama.cpp leaves them out")


def _merges(model: Mapping[str, Any]) -> list[str]:
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]


def _tokens(written: Mapping[str, Any], vocab_size: int, *, ignores_merges: bool) -> tuple[list[str], list[int]]:
    """Return the text and the type of each id; ids without a token get a name that no text gives."""
    model, added = written["model"], {item["id"]: item for item in written["added_tokens"]}
    names = {number: text for text, number in model["vocab"].items()}
    names |= {number: item["content"] for number, item in added.items()}
    if max(names) >= vocab_size:
        raise Unwritable(f"its tokenizer has the id {max(names)}, and its embedding {vocab_size} rows")
    merged = {pair.replace(" ", "", 1) for pair in _merges(model)} | set(byte_alphabet())
    types = []
    for number in range(vocab_size):
        item = added.get(number)
        if item is not None:
            types.append(_added_type(item))
        elif number in names and (ignores_merges or len(names[number]) == 1 or names[number] in merged):
            types.append(TokenType.NORMAL)
        else:
            types.append(TokenType.UNUSED)
    texts = [names.get(number, _UNUSED.format(number)) for number in range(vocab_size)]
    if len(set(texts)) < len(texts):
        raise Unwritable("two ids of its tokenizer have one text, and llama.cpp wants different ones")
    return texts, [int(item) for item in types]


def _added_type(item: Mapping[str, Any]) -> TokenType:
    if item["special"]:
        return TokenType.CONTROL
    if odd := [key for key in ("single_word", "lstrip", "rstrip", "normalized") if item.get(key)]:
        raise Unwritable(f"its tokenizer has an added token with {odd[0]}, which llama.cpp does not do")
    return TokenType.USER_DEFINED


def _chat_template(folder: Path) -> str | None:
    file, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
    return found if isinstance(found, str) else None
