"""Training of a tokenizer for a model, whose vocabulary size decides between BPE, bytes and characters."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.masking import count_spans
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.tokenizer.special_tokens import (
    add_special_tokens,
    assign_special_ids,
    decoder_start_id,
    set_special_token_template,
    special_token_name,
    vocabulary_too_small,
)
from transformer_foundry.core.data.tokenizer.tokenizer import SENTINEL, SpecialIds, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    import tokenizers

    from transformer_foundry.core.models.contract import Contract

__all__ = ["choose_max_length", "fit_tokenizer", "usable_vocab_size"]

# Special tokens that each task needs. A classifier has a first token because many models pool there.
_NEEDED = {
    "causal_lm": ("pad", "eos"),
    "masked_lm": ("pad", "eos", "mask"),
    "seq2seq_lm": ("pad", "eos"),
    "sequence_classification": ("pad", "bos"),
    "token_classification": ("pad", "bos"),
}
# UTF-8 never uses these 13 bytes, so a vocabulary of 256 has room for special tokens and still encodes every text.
_IMPOSSIBLE_BYTES = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))
_FITTED = ("auto", "bpe", "bytes", "characters")
_FIT_BYTES = 16 * 2**20  # more text hardly changes the merges and costs minutes and memory
_ENOUGH_COVERAGE = 0.9  # share of the characters of the text that a character vocabulary must contain


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
    if options.tokenizer not in _FITTED:
        return _fit_given(options.tokenizer, contract, vocab_size, max_length, needed, sentinels)
    special = assign_special_ids(contract, vocab_size, needed, sentinels)
    request = _digest(corpus.digest(), options.tokenizer, vocab_size, special, contract.task, max_length, _FIT_BYTES)
    if previous is not None and previous.request == request:
        return previous
    ordinary = vocab_size - len(special.ids())
    alphabet = _byte_alphabet()
    if options.tokenizer == "characters" or (options.tokenizer == "auto" and ordinary < len(alphabet)):
        special = assign_special_ids(contract, vocab_size, (*needed, "unk"), sentinels)
        backend, algorithm = _fit_characters(corpus, special, vocab_size), "characters"
    elif ordinary < len(alphabet):
        raise vocabulary_too_small(vocab_size, len(alphabet) + len(special.ids()), f"'{options.tokenizer}'")
    else:
        merges = 0 if options.tokenizer == "bytes" else ordinary - len(alphabet)
        backend, algorithm = _fit_bytes(corpus, special, alphabet, merges), "bpe" if merges else "bytes"
    add_special_tokens(backend, special, contract.task, has_pairs=corpus.columns.pair is not None)
    return Tokenizer(backend, special, max_length=max_length, algorithm=algorithm, request=request)


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


def _fit_characters(corpus: Corpus, special: SpecialIds, vocab_size: int) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers

    counts: Counter[str] = Counter()
    for text in _texts(corpus):
        counts.update(text)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    kept = ranked[: vocab_size - len(special.ids())]
    if sum(counts[character] for character in kept) < _ENOUGH_COVERAGE * counts.total():
        enough, covered = 0, 0
        while covered < _ENOUGH_COVERAGE * counts.total():
            covered += counts[ranked[enough]]
            enough += 1
        raise vocabulary_too_small(vocab_size, enough + len(special.ids()), "'characters'")
    unk = special_token_name(special, special.unk)
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=_number(kept, special), unk_token=unk))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _number(tokens: list[str], special: SpecialIds) -> dict[str, int]:
    """Return the vocabulary: special tokens at their ids, the others at the free ids; unused names fill the gaps."""
    reserved = set(special.ids())
    size = max(len(tokens) + len(reserved), max(reserved, default=-1) + 1)
    waiting = iter(tokens)
    free = (number for number in range(size) if number not in reserved)
    vocab = {next(waiting, f"<|unused{number}|>"): number for number in free}
    return vocab | {special_token_name(special, number): number for number in reserved}


def _fit_given(
    name: str, contract: Contract, vocab_size: int, max_length: int, needed: Sequence[str], sentinels: int
) -> Tokenizer:
    """Load a tokenizer from a folder or the Hub, and check that it fits the model."""
    given = load_tokenizer(name) if Path(name).expanduser().is_dir() else _download(name)
    if given.vocab_size > vocab_size:
        raise DataError(
            f"The tokenizer {name} has {given.vocab_size} tokens but the model only {vocab_size}.",
            f"Expected at most {vocab_size} tokens.",
            f"Set data.tokenizer to 'auto', or export the model with vocab_size {given.vocab_size}.",
        )
    if len(given.special.sentinels) < sentinels:
        raise DataError(
            f"The tokenizer {name} has {len(given.special.sentinels)} tokens {SENTINEL.format(0)}, ... for spans.",
            f"Rows of {max_length} tokens need {sentinels}.",
            "Set data.tokenizer to 'auto', or data.target_column to the column of the target text.",
        )
    tokenizer = Tokenizer(given.backend, _complete(given, contract, name, needed), max_length=max_length)
    if contract.task == "seq2seq_lm" and tokenizer.encode("a")[-1] != tokenizer.eos_token_id:
        set_special_token_template(tokenizer.backend, tokenizer.special, contract.task)
    return tokenizer


def _complete(given: Tokenizer, contract: Contract, name: str, needed: Sequence[str]) -> SpecialIds:
    """Add the special tokens that the task needs: those of the contract, else another; a mask cannot be replaced.

    An id of the contract is used only if it is special in the tokenizer: with the ids of GPT-2, an eos_token_id of 2
    would end a text at each "#".
    """
    found = dict(given.special.__dict__)
    special = {number for number, token in given.backend.get_added_tokens_decoder().items() if token.special}
    fallback = next((found[role] for role in ("pad", "eos", "bos", "unk") if found[role] is not None), None)
    for role in needed:
        if found[role] is not None:
            continue
        named = getattr(contract, f"{role}_token_id")
        found[role] = named if named in special else None if role == "mask" else fallback
        if found[role] is None:
            raise DataError(
                f"The tokenizer {name} has no {role} token.",
                f"The task {contract.task} needs one.",
                f"Set data.tokenizer to 'auto', or to a tokenizer with a {role} token.",
            )
    return SpecialIds(**{**found, "decoder_start": decoder_start_id(contract, found["pad"])})


def _download(name: str) -> Tokenizer:
    import tempfile

    from transformers import AutoTokenizer

    try:
        pretrained = AutoTokenizer.from_pretrained(name, use_fast=True)
        with tempfile.TemporaryDirectory() as folder:
            pretrained.save_pretrained(folder)
            return load_tokenizer(folder)
    except (OSError, ValueError) as err:
        raise DataError(
            f"The tokenizer {name} cannot be read: {str(err).splitlines()[0]}",
            "Expected 'auto', 'bytes', 'characters', a tokenizer folder or the name of a Hub tokenizer.",
            "Set data.tokenizer to 'auto', or check the name and the connection.",
        ) from err


def _texts(corpus: Corpus) -> Iterator[str]:
    """Yield the texts and targets of the train split, evenly sampled if there are more than needed."""
    stride = max(1, corpus.assignment.text_bytes["train"] // _FIT_BYTES)
    for number, document in enumerate(corpus.documents("train")):
        if number % stride == 0:
            yield document.text
            yield from (text for text in (document.target, document.pair) if text is not None)


def _byte_alphabet() -> list[str]:
    """Return the 243 characters that represent the bytes of UTF-8 in a byte-level tokenizer, by byte value."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(shifted)}
    return [characters[byte] for byte in range(256) if byte not in _IMPOSSIBLE_BYTES]


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
