"""WordPiece, the tokenizer of BERT: parts of words, by merging characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from transformer_foundry.core.data.tokenizer.special_tokens import special_token_name, vocabulary_too_small
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

if TYPE_CHECKING:
    import tokenizers

__all__ = ["fit_wordpiece"]

Number = Callable[[list[str], SpecialIds], dict[str, int]]


def fit_wordpiece(texts: Iterable[str], special: SpecialIds, vocab_size: int, number: Number) -> tokenizers.Tokenizer:
    """Return a WordPiece tokenizer; it loses line breaks and repeated blanks.

    Args:
        texts: The texts of the training split.
        special: Ids of the special tokens.
        vocab_size: Number of ids of the model.
        number: Returns the vocabulary of tokens and special tokens.

    Raises:
        DataError: If the vocabulary has no room for the characters of the text.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    trained = tokenizers.Tokenizer(models.WordPiece())
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    size = vocab_size - len(special.ids())
    trained.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=size, show_progress=False))
    found = trained.get_vocab()
    if len(found) > size:
        needed = len(found) + vocab_size - size
        raise vocabulary_too_small(vocab_size, needed, "'wordpiece'")
    vocab = number(sorted(found, key=lambda piece: found[piece]), special)
    unk = special_token_name(special, special.unk)
    backend = tokenizers.Tokenizer(models.WordPiece(vocab=vocab, unk_token=unk))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return backend
