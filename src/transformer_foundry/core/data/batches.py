"""Batches whose content is a function of the seed and the position, so that resuming costs nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from transformer_foundry.core.data.splits import TokenSplit, TokenSplits
from transformer_foundry.core.data.storage import Ragged
from transformer_foundry.core.errors import DataError

__all__ = ["IGNORED", "Batch", "Batches"]

Batch = dict[str, torch.Tensor]

IGNORED = -100  # what torch's cross-entropy ignores by default
# Shares of BERT (Devlin et al. 2019, 3.1): 15 % are targets; of these 80 % hidden, 10 % replaced, 10 % left.
_TARGET_SHARE = 0.15
_HIDDEN_SHARE = 0.8
_REPLACED_SHARE = 0.1
_ORDER_STREAM, _MASK_STREAM = 1, 2  # keep the two kinds of random numbers apart


class Batches:
    """The micro-batches of a split, in an order that any process can find again.

    Args:
        split: The rows.
        splits: The data set that the split is of: its task, special tokens and vocabulary.
        batch_size: Rows in a batch; the last batch of an epoch may have fewer.
        seed: Another seed gives another order and other masks.
        shuffle: Whether each epoch has a new order. Without it, every epoch has the same rows and the same masks.

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
                "Expected at least one.",
                f"Give more data in data.source, or set data.{split.name}_share.",
            )
        self.split = split
        self.batch_size = batch_size
        self._task = splits.task
        self._special = splits.special
        self._ordinary_ids = np.setdiff1d(np.arange(splits.vocab_size), splits.special.ids())
        self._seed = seed
        self._shuffle = shuffle
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Micro-batches in an epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def batch(self, position: int) -> Batch:
        """Return the micro-batch at ``position``, counted from 0 over all epochs.

        Returns:
            ``input_ids``, ``attention_mask`` (B, T) int64, padded to the longest row, and ``labels`` int64: (B, T)
            aligned with the ids they label (the causal objective shifts), (B, S) for pairs, (B,) for classes, -100
            where ignored; for pairs also ``decoder_input_ids`` and ``decoder_attention_mask`` (B, S).
        """
        rows = self.rows(position)
        input_ids, attention_mask = _pad(self.split.input_ids, rows, self._pad_id)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._task == "masked_lm":
            batch |= self._hide_tokens(input_ids, attention_mask, position)
        elif self.split.target_ids is not None:
            batch |= self._decoder_side(self.split.target_ids, rows)
        elif self.split.labels is not None:
            batch["labels"] = np.asarray(self.split.labels[rows], np.int64)
        else:
            batch["labels"] = np.where(attention_mask == 1, input_ids, IGNORED)
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}

    def rows(self, position: int) -> np.ndarray:
        """Return the numbers of the rows in the micro-batch at ``position``, (B,) int64."""
        if position < 0:
            raise ValueError(f"position is {position}, expected 0 or more")
        epoch, index = divmod(position, len(self))
        return self._epoch_order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def describe(self, position: int) -> dict[str, Any]:
        """Say which rows of which epoch a position holds, for logs and bug reports."""
        epoch, index = divmod(position, len(self))
        return {"split": self.split.name, "epoch": epoch, "batch": index, "rows": self.rows(position).tolist()}

    @property
    def _pad_id(self) -> int:
        return self._special.pad if self._special.pad is not None else 0

    def _epoch_order(self, epoch: int) -> np.ndarray:
        epoch = epoch if self._shuffle else 0
        if self._order is None or self._order[0] != epoch:
            order = np.arange(len(self.split))
            if self._shuffle:
                order = np.random.default_rng((self._seed, _ORDER_STREAM, epoch)).permutation(order)
            self._order = (epoch, order)
        return self._order[1]

    def _hide_tokens(self, input_ids: np.ndarray, attention_mask: np.ndarray, position: int) -> dict[str, np.ndarray]:
        """Choose the targets of a masked language model, at least one, and hide them."""
        assert self._special.mask is not None, "a tokenizer fitted to masked_lm has a mask token"
        position = position if self._shuffle else position % len(self)
        random = np.random.default_rng((self._seed, _MASK_STREAM, position))
        allowed = (attention_mask == 1) & ~np.isin(input_ids, self._special.ids())
        if not allowed.any():
            allowed = attention_mask == 1
        draws = np.where(allowed, random.random(input_ids.shape), 1.0)
        chosen = draws < max(_TARGET_SHARE, np.nextafter(draws.min(), 1.0))
        action = random.random(input_ids.shape)
        replacements = random.choice(self._ordinary_ids, input_ids.shape)
        hidden = chosen & (action < _HIDDEN_SHARE)
        replaced = chosen & (action >= _HIDDEN_SHARE) & (action < _HIDDEN_SHARE + _REPLACED_SHARE)
        seen = np.where(replaced, replacements, np.where(hidden, self._special.mask, input_ids))
        return {"input_ids": seen, "labels": np.where(chosen, input_ids, IGNORED)}

    def _decoder_side(self, targets: Ragged, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Shift the targets to the right behind the start token: the decoder sees only what comes before."""
        padded, mask = _pad(targets, rows, self._pad_id)
        start = self._special.decoder_start if self._special.decoder_start is not None else self._pad_id
        shifted = np.concatenate([np.full((len(rows), 1), start), padded[:, :-1]], axis=1)
        return {
            "decoder_input_ids": np.where(mask == 1, shifted, self._pad_id),
            "decoder_attention_mask": mask,
            "labels": np.where(mask == 1, padded, IGNORED),
        }


def _pad(column: Ragged, rows: np.ndarray, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows side by side, (B, longest) int64, and the mask that is 1 where they are real."""
    arrays = [column[int(row)] for row in rows]
    lengths = np.array([len(array) for array in arrays])
    mask = np.arange(max(lengths.max(), 1)) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, dtype=np.int64)
    padded[mask] = np.concatenate(arrays)
    return padded, mask.astype(np.int64)
