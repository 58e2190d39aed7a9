"""Batches whose content depends only on seed and position, so that resuming is free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.dataloading.sampler import EpochSampler
from transformer_foundry.core.data.masking import corrupt_spans, mask_tokens
from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.losses import Batch
from transformer_foundry.core.system.distributed import ProcessGroup

__all__ = [
    "Batch",
    "BatchSource",
    "Batches",
    "count_tokens",
    "evaluation_batches",
    "move_batch",
    "split_rows",
    "step_share",
    "training_batches",
]


_ORDER_STREAM, _MASK_STREAM = 1, 2  # independent random numbers for the order of rows and for masks


class Batches:
    """The micro-batches of a split, in an order that any process can reproduce.

    With ``shuffle``, rows of different lengths (pairs, texts to classify) are batched with rows of similar length, so
    that there is little padding.

    Args:
        split: The rows.
        splits: The dataset of the split, with its task, special tokens and vocabulary.
        batch_size: Rows in a batch; the last batch of an epoch may have fewer.
        seed: Seed of the order of rows and of the masks.
        shuffle: Whether each epoch has a new order and new masks; otherwise all epochs are equal.

    Raises:
        DataError: If the split has no rows.

    Example:
        >>> train = Batches(splits.train, splits, batch_size=16, seed=0, shuffle=True)  # doctest: +SKIP
        >>> train.batch(1000)["input_ids"].shape  # doctest: +SKIP
        torch.Size([16, 128])
    """

    def __init__(
        self, split: TokenSplit, splits: TokenSplits, *, batch_size: int, seed: int = 0, shuffle: bool = False
    ) -> None:
        if len(split) == 0:
            raise DataError(
                f"The {split.name} split has no rows.",
                "Expected at least one row.",
                f"Give more data in data.source, or set data.{split.name}_share.",
            )
        self.split = split
        self.batch_size = batch_size
        self._task = splits.task
        self._special = splits.special
        self._ordinary_ids = np.setdiff1d(np.arange(splits.vocab_size), splits.special.ids())
        self._seed = seed
        self._shuffle = shuffle
        self._order: tuple[int, EpochSampler] | None = None

    def __len__(self) -> int:
        """Return the number of micro-batches in an epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def batch(self, position: int) -> Batch:
        """Return the micro-batch at ``position``, counted from 0 over all epochs.

        Returns:
            ``input_ids``, ``attention_mask`` (B, T) int64, padded to the longest row, and ``labels`` int64: (B, T)
            aligned with the input ids (the causal loss shifts them), (B, S) for pairs, (B,) for classes, (B, L) of 0
            and 1 for several labels a text, -100 where ignored; float64 (B,) for numbers; for pairs also
            ``decoder_input_ids`` and ``decoder_attention_mask`` (B, S).
        """
        return self._load(self.rows(position), position)

    def longest_rows(self) -> Batch:
        """Return a micro-batch of the row with the most input ids and, for pairs, the one with the most target ids."""
        lengths = self._lengths(np.arange(len(self.split)))
        return self._load(np.unique(lengths.argmax(0)), 0)

    def rows(self, position: int) -> np.ndarray:
        """Return the numbers of the rows in the micro-batch at ``position``, (B,) int64."""
        if position < 0:
            raise ValueError(f"position is {position}, expected 0 or more")
        epoch, index = divmod(position, len(self))
        return self._epoch_order(epoch).batch(index)

    def row_count(self, position: int) -> int:
        """Return the number of rows of the micro-batch at ``position``: fewer than ``batch_size`` in the last one."""
        return len(self.rows(position))

    def padded_size(self, position: int) -> int:
        """Return the number of tokens of the micro-batch at ``position``, with padding and both sides of pairs.

        Span corruption makes the actual size slightly smaller. Only lengths are read.
        """
        lengths = self._lengths(self.rows(position))
        return int(lengths.max(0).sum()) * len(lengths)

    def describe(self, position: int) -> dict[str, Any]:
        """Return epoch, batch and rows of a position, for logs and bug reports."""
        epoch, index = divmod(position, len(self))
        return {"split": self.split.name, "epoch": epoch, "batch": index, "rows": self.rows(position).tolist()}

    @property
    def _pad_id(self) -> int:
        return self._special.pad if self._special.pad is not None else 0

    def _epoch_order(self, epoch: int) -> EpochSampler:
        epoch = epoch if self._shuffle else 0
        if self._order is None or self._order[0] != epoch:
            key = (self._seed, _ORDER_STREAM, epoch) if self._shuffle else None
            lengths = None if self.split.is_packed(self._task) else self._lengths
            self._order = (epoch, EpochSampler(len(self.split), self.batch_size, key, lengths))
        return self._order[1]

    def _lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the lengths of ``rows``, (N, 1) int64, (N, 2) for pairs."""
        sides = (self.split.input_ids, self.split.target_ids)
        return np.stack([side.lengths(rows) for side in sides if side is not None], axis=1)

    def _load(self, rows: np.ndarray, position: int) -> Batch:
        inputs = [self.split.input_ids[int(row)] for row in rows]
        batch = self._add_labels(inputs, rows, position)
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}

    def _add_labels(self, inputs: list[np.ndarray], rows: np.ndarray, position: int) -> dict[str, np.ndarray]:
        if self._task == "seq2seq_lm" and self.split.target_ids is None:
            return self._corrupt_spans(inputs, position)
        input_ids, attention_mask = _pad(inputs, self._pad_id)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._task == "masked_lm":
            return batch | self._mask_tokens(input_ids, attention_mask, position)
        if self.split.target_ids is not None:
            return batch | self._decoder_side([self.split.target_ids[int(row)] for row in rows])
        if self.split.token_labels is not None:
            return batch | {"labels": _pad([self.split.token_labels[int(row)] for row in rows], IGNORE_INDEX)[0]}
        if self.split.labels is not None:
            dtype = np.float64 if self._task == "regression" else np.int64
            return batch | {"labels": np.asarray(self.split.labels[rows], dtype)}
        learned = attention_mask
        if self.split.answer_marks is not None:
            learned = _pad([self.split.answer_marks[int(row)] for row in rows], 0)[0]
        return batch | {"labels": np.where(learned == 1, input_ids, IGNORE_INDEX)}

    def _random(self, position: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, _MASK_STREAM, position if self._shuffle else position % len(self)))

    def _mask_tokens(self, input_ids: np.ndarray, attention_mask: np.ndarray, position: int) -> dict[str, np.ndarray]:
        assert self._special.mask is not None, "a tokenizer for masked_lm has a mask token"
        seen, labels = mask_tokens(
            input_ids,
            attention_mask,
            self._random(position),
            mask_id=self._special.mask,
            special_ids=self._special.ids(),
            ordinary_ids=self._ordinary_ids,
        )
        return {"input_ids": seen, "labels": labels}

    def _corrupt_spans(self, inputs: list[np.ndarray], position: int) -> dict[str, np.ndarray]:
        random, special = self._random(position), self._special
        sides = [corrupt_spans(row, random, special.sentinels, special.eos) for row in inputs]
        input_ids, attention_mask = _pad([source for source, _ in sides], self._pad_id)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        return batch | self._decoder_side([target for _, target in sides])

    def _decoder_side(self, targets: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Shift the targets to the right after the start token: the decoder sees only earlier tokens."""
        padded, mask = _pad(targets, self._pad_id)
        start = self._special.decoder_start if self._special.decoder_start is not None else self._pad_id
        shifted = np.concatenate([np.full((len(targets), 1), start), padded[:, :-1]], axis=1)
        return {
            "decoder_input_ids": np.where(mask == 1, shifted, self._pad_id),
            "decoder_attention_mask": mask,
            "labels": np.where(mask == 1, padded, IGNORE_INDEX),
        }


def _pad(rows: Sequence[np.ndarray], filler: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the padded rows, (B, longest) int64, and their mask: 1 for tokens, 0 for padding."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(max(lengths.max(), 1)) < lengths[:, None]
    padded = np.full(mask.shape, filler, dtype=np.int64)
    padded[mask] = np.concatenate(rows)
    return padded, mask.astype(np.int64)


class BatchSource(Protocol):
    """Micro-batches by position, such as ``Batches``."""

    def __len__(self) -> int: ...

    def batch(self, position: int) -> Mapping[str, Tensor]:
        """Return the micro-batch at ``position``, always the same; the epoch is ``position // len``."""
        ...

    def row_count(self, position: int) -> int:
        """Return the number of rows of the micro-batch at ``position``."""
        ...

    def padded_size(self, position: int) -> int:
        """Return the number of tokens of the micro-batch at ``position``, with padding."""
        ...


def training_batches(splits: TokenSplits, *, batch_size: int, seed: int) -> BatchSource:
    """Return the shuffled micro-batches of the training split."""
    return Batches(splits.train, splits, batch_size=batch_size, seed=seed, shuffle=True)


def evaluation_batches(splits: TokenSplits, split: str = "validation", *, batch_size: int) -> BatchSource | None:
    """Return the batches of ``split`` in order, always the same; None if it has no rows."""
    rows = splits.splits[split]
    return Batches(rows, splits, batch_size=batch_size) if len(rows) else None


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Return ``batch`` on ``device``."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def split_rows(batch: Batch, rows: int | None) -> list[Batch]:
    """Return ``batch`` in pieces of at most ``rows`` rows; None returns it in one piece."""
    count = len(batch["input_ids"])
    if rows is None or rows >= count:
        return [batch]
    return [{name: tensor[start : start + rows] for name, tensor in batch.items()} for start in range(0, count, rows)]


def step_share(batches: BatchSource, position: int, count: int, processes: ProcessGroup) -> list[Batch]:
    """Return this process's share of the rows of a step: consecutive rows, as many as each other process or one more.

    The batches are the same for any number of processes, so that no row is skipped or repeated when it changes.

    Args:
        batches: The training data.
        position: The first batch of the step.
        count: Batches of the step, over all processes.
        processes: The processes that share it.

    Returns:
        Batches, or parts of them; none if there are fewer rows than processes.
    """
    if processes.world_size == 1:
        return [batches.batch(position + index) for index in range(count)]
    sizes = [batches.row_count(position + index) for index in range(count)]
    start, stop = (sum(sizes) * rank // processes.world_size for rank in (processes.rank, processes.rank + 1))
    share: list[Batch] = []
    offset = 0
    for index, size in enumerate(sizes):
        first, last = max(start - offset, 0), min(stop - offset, size)
        if first < last:
            batch = batches.batch(position + index)
            share.append({name: tensor[first:last] for name, tensor in batch.items()})
        offset += size
    return share


def count_tokens(batch: Batch) -> int:
    """Return the number of input tokens without padding, of encoder and decoder."""
    masks = [batch[name] for name in ("attention_mask", "decoder_attention_mask") if name in batch]
    return sum(int(mask.sum()) for mask in masks) or batch["input_ids"].numel()
