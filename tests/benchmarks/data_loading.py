"""What a batch costs, how much of it is padding, and how soon training finds its place again.

python -m tests.benchmarks.data_loading
"""

from __future__ import annotations

import time

import numpy as np
import torch

from transformer_foundry.core.data import Batches, RaggedArray, TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

_ROWS, _LENGTH, _BATCH = 2_000_000, 128, 16  # what 1 GB of English makes
_STEP_S = 0.1
_BATCHES = 400
_SPECIAL = SpecialIds(pad=0, bos=1, eos=2, mask=3, decoder_start=1, sentinels=tuple(range(4, 10)))


def make_splits(task: str) -> TokenSplits:
    """Rows as each task has them: packed, or of lengths as texts have them."""
    random = np.random.default_rng(0)
    packed = task in ("causal_lm", "masked_lm", "span corruption")
    rows = _ROWS if packed else _ROWS // 10
    lengths = np.full(rows, _LENGTH) if packed else np.exp(random.normal(3.5, 0.8, rows)).clip(4, _LENGTH).astype(int)
    inputs = _ragged_array(lengths, random)
    targets = _ragged_array((lengths * random.uniform(0.8, 1.2, rows)).clip(4, _LENGTH).astype(int), random)
    split = TokenSplit(
        "train",
        inputs,
        targets if task == "seq2seq_lm" else None,
        random.integers(0, 2, rows) if task == "sequence_classification" else None,
    )
    name = "seq2seq_lm" if task == "span corruption" else task
    return TokenSplits(split, split, split, name, 8192, _LENGTH, "f", _SPECIAL)


def _ragged_array(lengths: np.ndarray, random: np.random.Generator) -> RaggedArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return RaggedArray(random.integers(10, 8192, offsets[-1]).astype(np.uint16), offsets)


def main() -> None:
    """Print a line for each task."""
    print("task                      ms a batch  share of a 100 ms step    fill  first batch after resume, ms")
    for task in ("causal_lm", "masked_lm", "span corruption", "seq2seq_lm", "sequence_classification"):
        splits = make_splits(task)
        batches = Batches(splits.train, splits, batch_size=_BATCH, seed=0, shuffle=True)
        batches.batch(0)
        before = time.process_time()
        found = [batches.batch(position) for position in range(_BATCHES)]
        seconds = (time.process_time() - before) / _BATCHES
        sides = ("attention_mask", "decoder_attention_mask")
        masks = [batch[name] for batch in found for name in sides if name in batch]
        fill = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
        resumed = 0.0
        for position in (len(batches) // 3, 7 * len(batches) + 11, 100 * len(batches) - 1):
            before = time.process_time()
            fresh = Batches(splits.train, splits, batch_size=_BATCH, seed=0, shuffle=True).batch(position)
            resumed = max(resumed, time.process_time() - before)
            again = batches.batch(position)
            assert all(torch.equal(fresh[name], again[name]) for name in fresh)
        print(f"{task:<25} {seconds * 1e3:10.3f} {seconds / _STEP_S:23.2%} {fill:7.2%} {resumed * 1e3:30.1f}")


if __name__ == "__main__":
    main()
