"""Tokenizers in files of other libraries: sentencepiece (``.model``) and tiktoken (``.tiktoken``).

Both are read without these libraries: a ``.model`` is a protocol buffer with few fields, a ``.tiktoken`` a list of
tokens. Sources: sentencepiece_model.proto of sentencepiece; ``load_tiktoken_bpe`` and the encodings of tiktoken.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.data.tokenizer.byte_level import byte_characters
from transformer_foundry.core.data.tokenizer.limits import check_characters, check_token
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.data.tokenizer.unigram import NEVER, blank_decoder

if TYPE_CHECKING:
    import tokenizers

__all__ = ["find_foreign_file", "read_foreign_tokenizer"]

_Piece = TypeVar("_Piece", str, bytes)

_ENDINGS = (".model", ".tiktoken")
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6  # types of pieces; 1 is a normal one
_UNIGRAM, _BPE = 1, 2
_MOST_MISSING = 4096  # ranks without a token; published files lack a few at the end
_BLANK = "\u2581"

# Patterns by which tiktoken cuts a text into words before it merges, by the number of tokens of the file.
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4 = _CONTRACTION + _WORDS
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_KNOWN: dict[int, tuple[str, dict[str, int]]] = {
    50256: (_GPT2, {"<|endoftext|>": 50256}),
    50280: (_GPT2, {"<|endoftext|>": 50256}),
    100256: (_GPT4, {"<|endoftext|>": 100257}),
    199998: (_GPT4O, {"<|endoftext|>": 199999}),
    128000: (_GPT4, {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001}),
    151643: (_GPT4.replace("{1,3}", ""), {"<|endoftext|>": 151643}),
}


def find_foreign_file(path: Path) -> Path | None:
    """Return the file of another library that ``path`` is, or that a folder without a tokenizer.json contains."""
    if path.is_file():
        return path if path.suffix in _ENDINGS else None
    if not path.is_dir() or (path / "tokenizer.json").exists():
        return None
    found = sorted(entry for entry in path.iterdir() if entry.suffix in _ENDINGS)
    return found[0] if len(found) == 1 else None


def read_foreign_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a sentencepiece or tiktoken file; the content decides which.

    Raises:
        DataError: If it is neither, or a kind of sentencepiece model that has no counterpart.
    """
    content = path.read_bytes()
    try:
        ranks = _parse_ranks(content)
        if ranks:
            return _from_ranks(ranks)
        return _from_sentencepiece(_parse_model(content), path)
    except DataError:
        raise
    except (ValueError, IndexError, struct.error, KeyError, TypeError, AttributeError, OverflowError) as err:
        raise _unreadable(path, err) from err
    except Exception as err:  # tokenizers raises bare Exception on a damaged table
        if type(err) is not Exception:
            raise
        raise _unreadable(path, err) from err


def _unreadable(path: Path, err: Exception) -> DataError:
    return DataError(
        f"The tokenizer {path} cannot be read as a sentencepiece model or tiktoken file: {one_line(err, 200)}.",
        "Expected a complete file of one of them, tokenizer.json, a tokenizer folder or a Hub name.",
        "Download it again, or write tokenizer.json with the library that made it.",
    )


def _parse_ranks(content: bytes) -> dict[bytes, int]:
    """Return token -> rank of a tiktoken file; empty if it is none."""
    ranks = {}
    for line in content.splitlines():
        parts = line.split()
        if not parts:
            continue
        try:
            token, rank = parts
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            return {}
    return ranks


def _from_ranks(ranks: dict[bytes, int]) -> Tokenizer:
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

    _check_ranks(ranks)
    names = byte_characters()
    written = {token: "".join(names[byte] for byte in token) for token in ranks}
    merges = [(written[one], written[other]) for one, other in _merges(ranks.items(), ranks)]
    vocab = {written[token]: rank for token, rank in ranks.items()}
    pattern, special = _KNOWN.get(len(ranks), (_GPT4, {"<|endoftext|>": max(ranks.values()) + 1}))
    size = max(*ranks.values(), *special.values()) + 1
    taken = {*ranks.values(), *special.values()}
    vocab |= {f"<|unused{number}|>": number for number in range(size) if number not in taken} | special
    # A word that is a token is never cut, even if no merges lead to it.
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    bos = special.get("<|begin_of_text|>")
    return Tokenizer(backend, SpecialIds(bos=bos, eos=list(special.values())[-1]))


def _check_ranks(ranks: Mapping[bytes, int]) -> None:
    """Refuse ranks that are no numbers of tokens: those that are missing are filled."""
    highest = max(ranks.values())
    if min(ranks.values()) < 0 or len(set(ranks.values())) < len(ranks):
        raise ValueError("a rank is negative, or two tokens have the same")
    if highest > len(ranks) + _MOST_MISSING:
        raise ValueError(f"its highest rank is {highest}, but it has {len(ranks)} tokens")


@dataclass
class _Model:
    """The fields of a sentencepiece model that matter."""

    pieces: list[tuple[str, float, int]]
    kind: int = _UNIGRAM
    has_bytes: bool = False
    ids: dict[str, int] | None = None
    characters: bytes = b""
    adds_blank: bool = True
    joins_blanks: bool = True


def _parse_model(content: bytes) -> _Model:
    model = _Model([])
    ids = {"unk": 0, "bos": 1, "eos": 2, "pad": -1}
    for field, value in _fields(content):
        if field == 1:
            piece = dict(_fields(value))
            score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
            model.pieces.append((piece[1].decode("utf-8"), score, piece.get(3, 1)))
        elif field == 2:
            trainer = dict(_fields(value))
            model.kind, model.has_bytes = trainer.get(3, _UNIGRAM), bool(trainer.get(35, 0))
            for role, number in zip(ids, range(40, 44), strict=True):
                ids[role] = _signed(trainer.get(number, ids[role]))
        elif field == 3:
            normalizer = dict(_fields(value))
            model.characters = normalizer.get(2, b"")
            model.adds_blank, model.joins_blanks = bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1))
    if not model.pieces:
        raise ValueError("it has no pieces")
    model.ids = {role: number for role, number in ids.items() if 0 <= number < len(model.pieces)}
    return model


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of the fields of a protocol buffer message."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(content, place)
            yield key >> 3, value
            continue
        if kind == 2:
            size, place = _varint(content, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of type {kind} at byte {place}")
        if place + size > len(content):
            raise ValueError("it ends too early")
        yield key >> 3, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in itertools.count(0, 7):
        byte = content[place]
        value, place = value | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number without an end")
    raise AssertionError


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _from_sentencepiece(model: _Model, path: Path) -> Tokenizer:
    import tokenizers
    from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

    if model.kind not in (_UNIGRAM, _BPE):
        raise DataError(
            f"The tokenizer {path} is a sentencepiece model of words or characters.",
            "Expected one of the kinds unigram and bpe.",
            "Set data.tokenizer=word or characters to train one on the data.",
        )
    assert model.ids is not None
    if model.characters:
        check_characters(model.characters)
    backend = tokenizers.Tokenizer(_merging(model) if model.kind == _BPE else _most_probable(model))
    steps: list[Any] = [normalizers.Precompiled(model.characters)] if model.characters else []
    if model.joins_blanks:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    elif model.adds_blank:  # also before a blank
        steps += [normalizers.Prepend(_BLANK)]
    backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if model.adds_blank and model.joins_blanks else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme=scheme, split=False)
    backend.decoder = blank_decoder(has_bytes=model.has_bytes, strips_first=model.adds_blank)
    backend.add_special_tokens(
        [AddedToken(piece, special=True, normalized=False) for piece, _, kind in model.pieces if kind == _CONTROL]
    )
    given = [piece for piece, _, kind in model.pieces if kind == _USER_DEFINED]
    backend.add_tokens([AddedToken(piece, normalized=False) for piece in given])
    ids = model.ids
    special = SpecialIds(pad=ids.get("pad"), bos=ids.get("bos"), eos=ids.get("eos"), unk=ids.get("unk"))
    return Tokenizer(backend, special)


def _most_probable(model: _Model) -> tokenizers.models.Model:
    from tokenizers import models

    never = (_UNKNOWN, _CONTROL, _UNUSED, _BYTE)
    scores = [(piece, NEVER if kind in never else score) for piece, score, kind in model.pieces]
    return models.Unigram(scores, (model.ids or {}).get("unk"), byte_fallback=model.has_bytes)


def _merging(model: _Model) -> tokenizers.models.Model:
    from tokenizers import models

    vocab = {piece: number for number, (piece, _, _) in enumerate(model.pieces)}
    merges = list(_merges(((piece, -score) for piece, score, kind in model.pieces if kind == 1), vocab))
    unk = (model.ids or {}).get("unk")
    return models.BPE(
        vocab=vocab,
        merges=merges,
        unk_token=None if unk is None else model.pieces[unk][0],
        fuse_unk=True,
        byte_fallback=model.has_bytes,
    )


def _merges(tokens: Iterable[tuple[_Piece, float]], ids: Mapping[_Piece, int]) -> Iterator[tuple[_Piece, _Piece]]:
    """Yield the pairs that are merged to tokens, in the order of their ranks, then of the ids of both parts."""
    found: list[tuple[float, int, int, _Piece, _Piece]] = []
    for token, rank in tokens:
        check_token(token)
        pairs = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        found += [(rank, ids[one], ids[other], one, other) for one, other in pairs if one in ids and other in ids]
    found.sort(key=lambda merge: merge[:3])
    return ((one, other) for *_, one, other in found)
