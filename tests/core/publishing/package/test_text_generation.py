"""Text that grows with each token: certain pieces, texts to stop at, and draws from the most likely tokens."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from transformer_foundry.core.publishing.package.templates.text_generation import GrowingText, draw

TEXT = "a b\n\u4f60\u597d \U0001f469\u200d\U0001f467 na\u00efve\x85 !"


@functools.cache
def byte_tokenizer(kind: str) -> Tokenizer:
    """A tokenizer whose tokens are single bytes: of GPT-2, or of models that write unknown characters as bytes."""
    if kind == "byte level":
        from tokenizers.pre_tokenizers import ByteLevel

        tokenizer = Tokenizer(models.BPE({name: at for at, name in enumerate(sorted(ByteLevel.alphabet()))}, []))
        tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        return tokenizer
    words = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"\u2581": 256, "a": 257, "b": 258, "<unk>": 259}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<unk>", byte_fallback=True))
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def growing(tokenizer: Tokenizer, stop: Sequence[str] = ()) -> GrowingText:
    return GrowingText(tokenizer.decode, tokenizer.id_to_token, stop)


def pieces_of(text: GrowingText, ids: Sequence[int]) -> list[str]:
    pieces = []
    for number in ids:
        pieces.append(text.add(number))
        if text.is_stopped:
            break
    return [*pieces, text.finish()]


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_a_character_of_several_tokens_is_one_piece(kind: str) -> None:
    tokenizer = byte_tokenizer(kind)
    ids = tokenizer.encode(TEXT).ids
    pieces = pieces_of(growing(tokenizer), ids)
    assert "".join(pieces) == tokenizer.decode(ids) == TEXT
    assert "\ufffd" not in "".join(pieces)
    assert sum(map(bool, pieces)) >= 4


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
@pytest.mark.parametrize("seed", range(40))
def test_pieces_of_any_tokens_join_to_their_text(kind: str, seed: int) -> None:
    tokenizer, chance = byte_tokenizer(kind), random.Random(seed)
    whole = tokenizer.encode(TEXT * 3).ids
    ids = [number for number in whole if chance.random() < 0.9][: chance.randint(0, 60)]
    assert "".join(pieces_of(growing(tokenizer), ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("one two three", ["two"], "one "), ("aaab", ["aab"], "a"), ("abc", ["c", "b"], "a"), ("abc", ["x"], "abc"),
        ("ab\nab\n\nc", ["\n\n"], "ab\nab"), ("ab", ["abc"], "ab"), ("\u4f60\u597d.", ["\u597d"], "\u4f60"),
        ("abc", ["abc"], ""),
    ],
)  # fmt: skip
def test_a_text_ends_before_the_first_text_to_stop_at(text: str, stop: list[str], kept: str) -> None:
    tokenizer = byte_tokenizer("byte level")
    grown = growing(tokenizer, stop)
    pieces = pieces_of(grown, tokenizer.encode(text).ids)
    assert "".join(pieces) == grown.text == kept
    assert grown.is_stopped == any(item in text for item in stop)


def test_top_p_keeps_the_fewest_tokens_that_have_it() -> None:
    logits = np.log(np.array([0.1, 0.5, 0.15, 0.25], dtype=np.float32))
    drawn = {
        top_p: {draw(logits, 1.0, None, top_p, np.random.default_rng(seed)) for seed in range(200)}
        for top_p in (0.0, 0.4, 0.7, 0.85, 1.0)
    }
    assert drawn == {0.0: {1}, 0.4: {1}, 0.7: {1, 3}, 0.85: {1, 2, 3}, 1.0: {0, 1, 2, 3}}
