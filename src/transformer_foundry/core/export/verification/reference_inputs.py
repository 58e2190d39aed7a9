"""Make the inputs with which an adapted model is exported and verified: real tokens, rows that end in padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transformer_foundry.core.models.contract import IGNORE_INDEX

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.models.contract import Contract

__all__ = ["compared_by", "labelled_calls", "reference_inputs"]

_LABELLED_ROWS = 16
# Enough to detect a change of 1 % between two files on the same rows, and takes seconds on a CPU.
_MOST_LABELLED_POSITIONS = 8192

# The decoder's rows are longer than the encoder's by this, so that no exporter takes both lengths for the same.
_DECODER_SURPLUS = 2


def reference_inputs(
    contract: Contract, pad_token_id: int, special_ids: Sequence[int] = ()
) -> Callable[[int, int], dict[str, Tensor]]:
    """Return ``inputs(batch, length)`` for the ``Adapter`` of a model.

    Row i has i fewer real tokens than the first, which is full, and at least one. The decoder's rows are as long as
    the encoder's for a batch of one, and longer by two (shorter, at the greatest length) otherwise.

    Args:
        contract: Contract of the model: which masks it takes, its vocabularies and greatest length.
        pad_token_id: Id of padding.
        special_ids: Ids that are not used as real tokens.
    """
    vocabulary = _real_ids(contract.vocab_size, pad_token_id, special_ids)
    decoder_vocabulary = _real_ids(contract.decoder_vocab_size or contract.vocab_size, pad_token_id, special_ids)

    def inputs(batch: int, length: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * batch + length)
        ids, mask = _rows(batch, length, vocabulary, pad_token_id, generator)
        tensors = {"input_ids": ids}
        if contract.mask_argument is not None:
            tensors["attention_mask"] = mask
        if contract.decoder_ids_argument is not None:
            size = _decoder_length(batch, length, contract.max_length)
            ids, mask = _rows(batch, size, decoder_vocabulary, pad_token_id, generator)
            tensors["decoder_input_ids"] = ids
            if contract.decoder_mask_argument is not None:
                tensors["decoder_attention_mask"] = mask
        return tensors

    return inputs


def compared_by(contract: Contract, pad_token_id: int) -> Callable[[Mapping[str, Tensor]], Tensor | None]:
    """Return the function that marks the positions whose logits are compared: those that are not padding."""

    def compared(tensors: Mapping[str, Tensor]) -> Tensor | None:
        if contract.scores_texts or contract.next_token_only:
            return None
        return tensors["decoder_input_ids" if contract.decoder_ids_argument else "input_ids"] != pad_token_id

    return compared


def labelled_calls(splits: TokenSplits, contract: Contract, split: str = "test") -> Iterator[dict[str, Tensor]]:
    """Yield calls of an ``Adapter`` with ``labels`` that are aligned with its logits, for ``export_model``.

    Args:
        splits: The data that the model was trained on.
        contract: Contract of the model: which tensors it takes.
        split: The split of the rows; its first 8192 positions are used.
    """
    from transformer_foundry.core.data.dataloading.batches import evaluation_batches

    names = reference_inputs(contract, 0)(1, 1)
    batches = evaluation_batches(splits, split, batch_size=_LABELLED_ROWS)
    seen, position = 0, 0
    while batches is not None and position < len(batches) and seen < _MOST_LABELLED_POSITIONS:
        batch = batches.batch(position)
        labels = batch["labels"]
        if contract.next_token_only:
            batch = {name: tensor[:, :-1] for name, tensor in batch.items()}
            labels = labels[:, -1:]
        elif contract.task == "causal_lm":
            # Position t predicts token t + 1.
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORE_INDEX)], 1)
        yield {name: batch[name] for name in names} | {"labels": labels}
        position, seen = position + 1, seen + batch["input_ids"].numel()


def _real_ids(vocab_size: int, pad_token_id: int, special_ids: Sequence[int]) -> Tensor:
    excluded = {pad_token_id, *special_ids}
    ordinary = [number for number in range(vocab_size) if number not in excluded]
    return torch.tensor(ordinary or [number for number in range(vocab_size) if number != pad_token_id] or [0])


def _rows(
    batch: int, length: int, vocabulary: Tensor, pad_token_id: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    ids = vocabulary[torch.randint(len(vocabulary), (batch, length), generator=generator)]
    real_tokens = (length - torch.arange(batch)).clamp(min=1)
    mask = (torch.arange(length) < real_tokens[:, None]).long()
    return torch.where(mask == 1, ids, pad_token_id), mask


def _decoder_length(batch: int, length: int, longest: int | None) -> int:
    if batch == 1:
        return length
    if longest is None or length + _DECODER_SURPLUS <= longest:
        return length + _DECODER_SURPLUS
    return max(1, length - _DECODER_SURPLUS)
