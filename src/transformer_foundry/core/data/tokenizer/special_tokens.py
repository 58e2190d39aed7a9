"""Special tokens of a trained tokenizer: their ids, and their positions in the rows of each task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenizer.tokenizer import ROLES, SENTINEL, SpecialIds
from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    import tokenizers

    from transformer_foundry.core.models.contract import Contract

__all__ = [
    "add_special_tokens",
    "assign_special_ids",
    "decoder_start_id",
    "set_special_token_template",
    "special_token_name",
    "vocabulary_too_small",
]

_TEMPLATES = {
    "seq2seq_lm": ("eos", "$A {token}"),
    **dict.fromkeys((*TEXT_TASKS, "token_classification"), ("bos", "{token} $A")),
}


def assign_special_ids(contract: Contract, vocab_size: int, needed: Sequence[str], sentinels: int) -> SpecialIds:
    """Return the id of each role: that of the contract, else the smallest free one; then ids for the sentinels."""
    placed = {role: getattr(contract, f"{role}_token_id") for role in ROLES}
    start = contract.decoder_start_token_id
    for role, number in (*placed.items(), ("decoder_start", start)):
        if number is not None and not 0 <= number < vocab_size:
            raise DataError(
                f"{role}_token_id is {number} but the model has {vocab_size} token ids.",
                f"Expected 0 to {vocab_size - 1}.",
                f"Correct {role}_token_id or vocab_size in config.json.",
            )
    taken = {number for number in (*placed.values(), start) if number is not None}
    free = (number for number in itertools.count() if number not in taken)
    for role in needed:
        if placed[role] is None:
            placed[role] = next(free)
            taken.add(placed[role])
    marks = tuple(itertools.islice(free, sentinels))
    if len(taken) + len(marks) >= vocab_size:
        raise vocabulary_too_small(vocab_size, len(taken) + len(marks) + 2, "any")
    return SpecialIds(**placed, decoder_start=decoder_start_id(contract, placed["pad"]), sentinels=marks)


def decoder_start_id(contract: Contract, pad: int | None) -> int | None:
    """Return the decoder start token of the contract, else its bos, else the padding, as T5 does."""
    if contract.task != "seq2seq_lm" or contract.decoder_start_token_id is not None:
        return contract.decoder_start_token_id
    return pad if contract.bos_token_id is None else contract.bos_token_id


def add_special_tokens(backend: tokenizers.Tokenizer, special: SpecialIds, task: str, *, has_pairs: bool) -> None:
    """Mark the special tokens in a backend whose vocabulary contains them, and set the template of ``task``."""
    from tokenizers import AddedToken

    names = [special_token_name(special, number) for number in special.ids()]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if task in _TEMPLATES:
        set_special_token_template(backend, special, task, has_pairs=has_pairs)


def set_special_token_template(
    backend: tokenizers.Tokenizer, special: SpecialIds, task: str, *, has_pairs: bool = False
) -> None:
    """Make the backend add the special token of the task to each text, and an end after each text of a pair."""
    from tokenizers import processors

    role, template = _TEMPLATES[task]
    name = backend.id_to_token(getattr(special, role))
    tokens, single = [(name, getattr(special, role))], template.format(token=name)
    if has_pairs:
        assert special.eos is not None, "a pair needs an end token between its texts"
        end = backend.id_to_token(special.eos)
        pair, tokens = f"{single} {end} $B:1 {end}:1", sorted({*tokens, (end, special.eos)})
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair if has_pairs else None, special_tokens=tokens
    )


def special_token_name(special: SpecialIds, number: int | None) -> str:
    """Return the name of an id, after its first role; unlike ``<s>``, it is unlikely to occur in a text."""
    if number in special.sentinels:
        return SENTINEL.format(special.sentinels.index(int(number or 0)))
    roles = (*ROLES, "decoder_start")
    return f"<|{next(role for role in roles if getattr(special, role) == number)}|>"


def vocabulary_too_small(vocab_size: int, needed: int, tokenizer: str) -> DataError:
    """Return the error for a model with fewer ids than the tokenizer needs."""
    return DataError(
        f"The model has {vocab_size} token ids, but the tokenizer ({tokenizer}) needs {needed} for this text.",
        f"Expected a vocabulary of at least {needed}.",
        f"Export the model with vocab_size {max(needed, 256)} or more, or choose other text with data.source.",
    )
