"""The tokenizer of data that are token ids already: a token is its number, in decimal."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenizer.special_tokens import decoder_start_id, special_token_name
from transformer_foundry.core.data.tokenizer.tokenizer import IDS, SpecialIds, Tokenizer

if TYPE_CHECKING:
    import tokenizers

    from transformer_foundry.core.models.contract import Contract

__all__ = ["number_tokens"]


def number_tokens(
    contract: Contract, data_ids: int, model_ids: int, max_length: int, *, is_stream: bool, sentinels: int, source: str
) -> Tokenizer:
    """Return a tokenizer whose tokens are the numbers 0 to ``data_ids`` - 1, between blanks.

    Special tokens are those of the contract; others get ids that the data do not use. If there are none, rows have no
    end token, and padding is an id that counts nowhere.

    Args:
        contract: The model's task and special tokens.
        data_ids: ``data.vocab_size``.
        model_ids: Number of ids of the model.
        max_length: Longest row, in tokens.
        is_stream: Whether the data are one stream, which has its own end tokens.
        sentinels: Number of ids for hidden spans.
        source: Name of the data in messages.

    Raises:
        DataError: If the model has fewer ids than the data, or none left for a mask or hidden spans.
    """
    if data_ids > model_ids:
        raise DataError(
            f"data.vocab_size is {data_ids}, but the model has {model_ids} token ids.",
            f"Expected at most {model_ids}.",
            f"Export the model with vocab_size {data_ids}, or correct data.vocab_size.",
        )
    placed = {role: getattr(contract, f"{role}_token_id") for role in ("pad", "bos", "eos", "mask")}
    taken = {*placed.values(), contract.decoder_start_token_id}
    free = (number for number in range(data_ids, model_ids) if number not in taken)
    wanted = [] if is_stream and contract.task == "causal_lm" else ["eos"]
    for role in (*wanted, "pad", *(["mask"] if contract.task == "masked_lm" else [])):
        if placed[role] is None:
            placed[role] = next(free, None)
    marks = tuple(itertools.islice(free, sentinels))
    if len(marks) < sentinels or (contract.task == "masked_lm" and placed["mask"] is None):
        what = f"{sentinels} tokens for hidden spans" if sentinels else "a mask token"
        raise DataError(
            f"The task {contract.task} needs {what}, but the ids of {source} fill the {model_ids} ids of the model.",
            f"Expected a model with more ids than data.vocab_size ({data_ids}).",
            f"Export the model with vocab_size {data_ids + max(sentinels, 1) + 2} or more.",
        )
    special = SpecialIds(**placed, decoder_start=decoder_start_id(contract, placed["pad"]), sentinels=marks)
    return Tokenizer(_backend(special, data_ids), special, max_length=max_length, algorithm=IDS)


def _backend(special: SpecialIds, data_ids: int) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    size = max(data_ids, max(special.ids(), default=0) + 1)
    vocab = {str(number): number for number in range(data_ids)}
    vocab |= {f"<|unused{number}|>": number for number in range(data_ids, size) if number not in special.ids()}
    vocab |= {special_token_name(special, number): number for number in special.ids() if number >= data_ids}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=vocab))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.WordPiece(prefix="\u2581", cleanup=False)  # joins tokens with blanks
    names = [backend.id_to_token(number) for number in special.ids()]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return backend
