"""Tokenizers whose tokens are whole symbols: characters, or words between blanks, such as chess moves and log keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from transformer_foundry.core.data.tokenizer.special_tokens import special_token_name, vocabulary_too_small
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

if TYPE_CHECKING:
    import tokenizers

__all__ = ["fit_characters", "fit_words"]

_ENOUGH_COVERAGE = 0.9  # share of the symbols of the text that the vocabulary must contain
_BLANK = "\u2581"  # stands for the blank before a word, as in sentencepiece
_PIECE = re.compile(r"\n| ?[^ \n]+| ")

Number = Callable[[list[str], SpecialIds], dict[str, int]]


def fit_characters(texts: Iterable[str], special: SpecialIds, vocab_size: int, number: Number) -> tokenizers.Tokenizer:
    """Return a tokenizer of the most frequent characters.

    Args:
        texts: The texts of the training split.
        special: Ids of the special tokens.
        vocab_size: Number of ids of the model.
        number: Returns the vocabulary of tokens and special tokens.

    Raises:
        DataError: If they would cover less than nine tenths of the text.
    """
    from tokenizers import Regex, decoders, pre_tokenizers

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    backend = _word_level(counts, special, vocab_size, number, "'characters'")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def fit_words(texts: Iterable[str], special: SpecialIds, vocab_size: int, number: Number) -> tokenizers.Tokenizer:
    """Return a tokenizer of the most frequent words; blanks and line breaks separate words, nothing else does.

    A word is one token wherever it stands: at the beginning of a line too. See ``fit_characters`` for the arguments.
    """
    from tokenizers import Regex, decoders, pre_tokenizers

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_BLANK + piece.removeprefix(" ") for piece in _PIECE.findall(text))
    backend = _word_level(counts, special, vocab_size, number, "'word'")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n| ?[^ \n]+| "), "isolated"),
            pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always", split=False),
        ]
    )
    # The blanks around a line break, and the one before the first word, were never there.
    unmarked = [("\n" + _BLANK, "\n"), (_BLANK + "\n", "\n"), (_BLANK, " ")]
    replaced = [decoders.Replace(old, new) for old, new in unmarked]
    backend.decoder = decoders.Sequence([decoders.Fuse(), *replaced, decoders.Strip(" ", 1, 0)])
    return backend


def _word_level(
    counts: Counter[str], special: SpecialIds, vocab_size: int, number: Number, kind: str
) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import models

    ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    kept = ranked[: vocab_size - len(special.ids())]
    if sum(counts[symbol] for symbol in kept) < _ENOUGH_COVERAGE * counts.total():
        enough, covered = 0, 0
        while covered < _ENOUGH_COVERAGE * counts.total():
            covered += counts[ranked[enough]]
            enough += 1
        raise vocabulary_too_small(vocab_size, enough + len(special.ids()), kind)
    unk = special_token_name(special, special.unk)
    return tokenizers.Tokenizer(models.WordLevel(vocab=number(kept, special), unk_token=unk))
