"""Training of a tokenizer for a model, whose vocabulary size decides between BPE, bytes and characters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.document import STREAM_COLUMN
from transformer_foundry.core.data.masking import count_spans
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.tokenizer.byte_level import byte_alphabet
from transformer_foundry.core.data.tokenizer.given import FITTED, fit_given
from transformer_foundry.core.data.tokenizer.ids import number_tokens
from transformer_foundry.core.data.tokenizer.special_tokens import (
    add_special_tokens,
    assign_special_ids,
    set_special_token_template,
    special_token_name,
    vocabulary_too_small,
)
from transformer_foundry.core.data.tokenizer.symbols import fit_characters, fit_words
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.data.tokenizer.unigram import fit_unigram
from transformer_foundry.core.data.tokenizer.wordpiece import fit_wordpiece
from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    import tokenizers

    from transformer_foundry.core.models.contract import Contract

__all__ = ["choose_max_length", "fit_tokenizer", "fitted_kind", "is_trained_for", "usable_vocab_size"]

# Special tokens that each task needs. A classifier has a first token because many models pool there.
_NEEDED = {
    "causal_lm": ("pad", "eos"),
    "masked_lm": ("pad", "eos", "mask"),
    "seq2seq_lm": ("pad", "eos"),
    **dict.fromkeys((*TEXT_TASKS, "token_classification"), ("pad", "bos")),
}
_OTHER_NAMES = {"byte": "bytes", "char": "characters", "chars": "characters", "words": "word"}
_SYMBOLS = {
    "characters": fit_characters,
    "word": fit_words,
    "wordpiece": fit_wordpiece,
    "unigram": fit_unigram,
}
_FIT_BYTES = 16 * 2**20  # more text hardly changes the merges and costs minutes and memory
_FIT_UNIGRAM_BYTES = 2**20  # measured: 12 s a megabyte, with the marked words


def fit_tokenizer(
    corpus: Corpus, contract: Contract, options: DataOptions, *, previous: Tokenizer | None = None
) -> Tokenizer:
    """Return a tokenizer whose ids all fit the model, with the special tokens of the contract.

    From 243 ids (the bytes of UTF-8) plus the special tokens on, it is a byte-level BPE that fills the vocabulary
    exactly, unless the text is too short for so many merges; below, it has the most frequent characters.

    Args:
        corpus: The documents; the tokenizer is trained on the train split.
        contract: Sizes and special tokens of the model.
        options: Only ``tokenizer`` and ``max_length`` are used; 'auto' is BPE, or characters if BPE does not fit.
        previous: An earlier tokenizer, returned if it was trained with the same data and settings.

    Raises:
        DataError: If the vocabulary is too small, or a given tokenizer is too large for it.
    """
    max_length = choose_max_length(contract, options)
    vocab_size = usable_vocab_size(contract)
    needed = _needed_roles(corpus, contract)
    sentinels = count_spans(max_length) if corpus.corrupts_spans else 0
    kind = _kind(options)
    if corpus.columns.vocab_size is not None:
        return _number_ids(corpus, contract, options, max_length, sentinels)
    if kind not in FITTED:
        return fit_given(options.tokenizer, contract, vocab_size, max_length, needed, sentinels)
    if previous is not None and is_trained_for(previous, corpus, contract, options):
        return previous
    special = assign_special_ids(contract, vocab_size, needed, sentinels)
    request = _request(corpus, contract, options)
    ordinary = vocab_size - len(special.ids())
    alphabet = byte_alphabet()
    if kind == "auto" and ordinary < len(alphabet):
        kind = "characters"
    if kind in _SYMBOLS:
        special = assign_special_ids(contract, vocab_size, (*needed, "unk"), sentinels)
        texts = _texts(corpus, _FIT_UNIGRAM_BYTES if kind == "unigram" else _FIT_BYTES)
        backend, algorithm = _SYMBOLS[kind](texts, special, vocab_size, _number), kind
    elif ordinary < len(alphabet):
        raise vocabulary_too_small(vocab_size, len(alphabet) + len(special.ids()), f"'{options.tokenizer}'")
    else:
        merges = 0 if kind == "bytes" else ordinary - len(alphabet)
        backend, algorithm = _fit_bytes(corpus, special, alphabet, merges), "bpe" if merges else "bytes"
    add_special_tokens(backend, special, contract.task, has_pairs=corpus.columns.pair is not None)
    return Tokenizer(backend, special, max_length=max_length, algorithm=algorithm, request=request)


def is_trained_for(tokenizer: Tokenizer, corpus: Corpus, contract: Contract, options: DataOptions) -> bool:
    """Return whether ``fit_tokenizer`` would return the same tokenizer; one from the Hub is not downloaded for that."""
    if corpus.columns.vocab_size is not None:
        return tokenizer.digest() == fit_tokenizer(corpus, contract, options).digest()
    if _kind(options) in FITTED:
        return tokenizer.request == _request(corpus, contract, options)
    if Path(options.tokenizer).expanduser().exists():
        return tokenizer.digest() == fit_tokenizer(corpus, contract, options).digest()
    return tokenizer.algorithm == "given"


def fitted_kind(options: DataOptions) -> str | None:
    """Return the kind of tokenizer that is fitted to the text; None if ``data.tokenizer`` names one that exists."""
    kind = _kind(options)
    return kind if kind in FITTED else None


def _kind(options: DataOptions) -> str:
    """Return the kind of a tokenizer to train, or the name of a given one."""
    return _OTHER_NAMES.get(options.tokenizer, options.tokenizer)


def _request(corpus: Corpus, contract: Contract, options: DataOptions) -> str:
    """Return the digest of everything that a trained tokenizer depends on."""
    max_length, vocab_size = choose_max_length(contract, options), usable_vocab_size(contract)
    sentinels = count_spans(max_length) if corpus.corrupts_spans else 0
    special = assign_special_ids(contract, vocab_size, _needed_roles(corpus, contract), sentinels)
    return _digest(corpus.digest(), _kind(options), vocab_size, special, contract.task, max_length, _FIT_BYTES)


def usable_vocab_size(contract: Contract) -> int:
    """Return the smallest vocabulary of the model: of both embeddings and, if it predicts ids, of the head."""
    sizes = [contract.vocab_size, contract.decoder_vocab_size]
    if contract.task in ("causal_lm", "masked_lm", "seq2seq_lm"):
        sizes.append(contract.output_size)
    return min(size for size in sizes if size is not None)


def _needed_roles(corpus: Corpus, contract: Contract) -> tuple[str, ...]:
    """Return the special tokens that the task needs; between the two texts of a pair is an end token."""
    needed = _NEEDED[contract.task]
    return needed if corpus.columns.pair is None else (*needed, "eos")


def _fit_bytes(corpus: Corpus, special: SpecialIds, alphabet: list[str], merges: int) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if merges:
        trainer = trainers.BpeTrainer(
            vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, show_progress=False, min_frequency=2
        )
        trained.train_from_iterator(_texts(corpus), trainer)
    model = json.loads(trained.to_str())["model"]
    pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    merged = dict.fromkeys("".join(pair) for pair in pairs)
    backend = tokenizers.Tokenizer(models.BPE(vocab=_number([*alphabet, *merged], special), merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _number(tokens: list[str], special: SpecialIds) -> dict[str, int]:
    """Return the vocabulary: special tokens at their ids, the others at the free ids; unused names fill the gaps."""
    reserved = set(special.ids())
    size = max(len(tokens) + len(reserved), max(reserved, default=-1) + 1)
    waiting = iter(tokens)
    free = (number for number in range(size) if number not in reserved)
    vocab = {next(waiting, f"<|unused{number}|>"): number for number in free}
    return vocab | {special_token_name(special, number): number for number in reserved}


def _number_ids(corpus: Corpus, contract: Contract, options: DataOptions, max_length: int, sentinels: int) -> Tokenizer:
    """Return the tokenizer of data that are ids, with an end token for each target of a pair."""
    columns = corpus.columns
    if options.tokenizer != "auto":
        raise DataError(
            f"data.vocab_size says that {corpus.name} holds token ids, but data.tokenizer is {options.tokenizer}.",
            "Expected ids, which need no tokenizer, or text.",
            "Set data.tokenizer to auto, or data.vocab_size to null if the data are text.",
        )
    assert columns.vocab_size is not None
    tokenizer = number_tokens(
        contract,
        columns.vocab_size,
        usable_vocab_size(contract),
        max_length,
        is_stream=columns.text == STREAM_COLUMN,
        sentinels=sentinels,
        source=corpus.name,
    )
    if contract.task == "seq2seq_lm" and tokenizer.special.eos is not None:
        set_special_token_template(tokenizer.backend, tokenizer.special, contract.task)
    return tokenizer


def _texts(corpus: Corpus, most_bytes: int = _FIT_BYTES) -> Iterator[str]:
    """Yield the texts and targets of the train split, evenly sampled if there are more than needed."""
    stride = max(1, corpus.assignment.text_bytes["train"] // most_bytes)
    for number, document in enumerate(corpus.documents("train")):
        if number % stride == 0:
            yield document.text
            yield from (text for text in (document.target, document.pair) if text is not None)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


_DEFAULT_LENGTH = 128  # tokens: enough to learn from on two cores


def choose_max_length(contract: Contract, options: DataOptions) -> int:
    """Return the longest row in tokens: ``data.max_length``, else the model's maximum up to 128.

    Raises:
        DataError: If ``data.max_length`` exceeds the model's maximum.
    """
    if options.max_length is None:
        return min(contract.max_length or _DEFAULT_LENGTH, _DEFAULT_LENGTH)
    if contract.max_length is not None and options.max_length > contract.max_length:
        raise DataError(
            f"data.max_length is {options.max_length} but the model accepts at most {contract.max_length} tokens.",
            f"Expected at most {contract.max_length}.",
            f"Set data.max_length to {contract.max_length} or less, or to null.",
        )
    return options.max_length
