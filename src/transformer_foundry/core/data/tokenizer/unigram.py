"""Unigram, the tokenizer of T5 and other models that were trained with sentencepiece: the most probable pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from transformer_foundry.core.data.tokenizer.special_tokens import special_token_name, vocabulary_too_small
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

if TYPE_CHECKING:
    import tokenizers

__all__ = ["NEVER", "blank_decoder", "fit_unigram"]

NEVER = -1e6
"""Score of pieces that no text is cut into: names of special tokens, bytes."""

_BLANK = "\u2581"  # stands for a blank, as in sentencepiece
_ASCII = [chr(code) for code in range(0x21, 0x7F)]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_ROOM_FOR_BYTES = 4 * len(_BYTES)  # ids; smaller vocabularies have an unknown token instead
_UNKNOWN = "\ue0fe"  # replaced by the unknown token of the model
_MARK = "\ue0fd"
_WORDS = re.compile(r"\S+")
_DECIMALS = 4  # the trainer sums in another order each time

Number = Callable[[list[str], SpecialIds], dict[str, int]]


def fit_unigram(texts: Iterable[str], special: SpecialIds, vocab_size: int, number: Number) -> tokenizers.Tokenizer:
    """Return a unigram tokenizer; from 1,024 ids on, characters that it does not know are encoded as bytes.

    Args:
        texts: The texts of the training split.
        special: Ids of the special tokens.
        vocab_size: Number of ids of the model.
        number: Returns the vocabulary of tokens and special tokens.

    Raises:
        DataError: If the vocabulary has no room for the characters of the text.
    """
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    room = vocab_size - len(special.ids())
    extra = _BYTES if room >= _ROOM_FOR_BYTES else []
    trained = tokenizers.Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="never")
    alphabet = _ASCII if extra else []
    trainer = trainers.UnigramTrainer(
        vocab_size=(room - len(extra)) * 9 // 8 + 2,  # some pieces hold the mark
        show_progress=False,
        initial_alphabet=alphabet,
        unk_token=_UNKNOWN,
        special_tokens=[_UNKNOWN],
    )
    try:
        trained.train_from_iterator(_with_marked(texts), trainer)
    except Exception as err:  # tokenizers raises a bare Exception
        if "not large enough" not in str(err):
            raise
        raise vocabulary_too_small(vocab_size, 2 * vocab_size, "'unigram'") from err
    found = _canonical(json.loads(trained.to_str())["model"]["vocab"][1:])
    surplus = len(found) - (room - len(extra))
    if surplus > 0:  # the least probable ones, but no character
        rare = [piece for piece in reversed(found) if len(piece) > 1][:surplus]
        if len(rare) < surplus:
            raise vocabulary_too_small(vocab_size, len(found) - len(rare) + vocab_size - room + len(extra), "'unigram'")
        found = {piece: score for piece, score in found.items() if piece not in set(rare)}
    vocab = number([*found, *extra], special)
    scores = [(piece, found.get(piece, NEVER)) for piece in sorted(vocab, key=lambda piece: vocab[piece])]
    unk = vocab[special_token_name(special, special.unk)]
    backend = tokenizers.Tokenizer(models.Unigram(scores, unk, byte_fallback=bool(extra)))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="never")
    backend.decoder = blank_decoder(has_bytes=bool(extra))
    return backend


def blank_decoder(*, has_bytes: bool, strips_first: bool = False) -> tokenizers.decoders.Decoder:
    """Return the decoder of pieces in which a mark stands for a blank, as sentencepiece writes them.

    Args:
        has_bytes: Whether pieces such as ``<0x0A>`` are bytes.
        strips_first: Whether the first blank was added by the tokenizer.
    """
    from tokenizers import decoders

    steps = [decoders.Replace(_BLANK, " "), *([decoders.ByteFallback()] if has_bytes else []), decoders.Fuse()]
    return decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if strips_first else [])])


def _with_marked(texts: Iterable[str]) -> Iterator[str]:
    """Yield each text, and again with a mark after each word.

    The trainer begins with the pieces that occur in two different words at least: without the marks, a word that is
    part of no other one would never be a piece.
    """
    for text in texts:
        yield text
        yield _WORDS.sub(rf"\g<0>{_MARK}", text)


def _canonical(pieces: list[tuple[str, float]]) -> dict[str, float]:
    """Return pieces and scores without what differs between trainings on one text, but for ties.

    The trainer gives characters that it had dropped scores below all others, in the random order of a hash table.
    """
    pieces = [(piece, score) for piece, score in pieces if _MARK not in piece]
    lowest = min((score for piece, score in pieces if len(piece) > 1), default=0.0)
    kept = {
        piece: round(score if len(piece) > 1 or score >= lowest else lowest - 1, _DECIMALS) for piece, score in pieces
    }
    return dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))
