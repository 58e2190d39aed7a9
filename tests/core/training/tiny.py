"""Models and data small enough to train in milliseconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenized.memmap import RaggedArray
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds
from transformer_foundry.core.models.options import TEXT_TASKS
from transformer_foundry.core.training import (
    VOLATILE_METRICS,
    Checkpoint,
    Event,
    Progress,
    TrainingOptions,
    TrainingState,
    fit,
)

VOCAB_SIZE = 32
LENGTH = 12
PAD, EOS, MASK, START = 0, 1, 2, 3

SPECIAL = SpecialIds(pad=PAD, bos=EOS, eos=EOS, mask=MASK, decoder_start=START)


class TinyTransformer(nn.Module):
    """Embedding, attention, feed-forward, head tied to the embedding; dropout on; causal unless told otherwise."""

    def __init__(self, *, dropout: float = 0.1, output_size: int | None = None, is_causal: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCAB_SIZE, 16)
        self.attention = nn.MultiheadAttention(16, 2, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(16, output_size or VOCAB_SIZE, bias=False)
        self.pools = output_size is not None
        self.is_causal = is_causal
        if output_size is None:
            self.head.weight = self.embedding.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        if self.training:
            self.calls += 1
        x = self.embedding(input_ids)
        length = input_ids.size(1)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1) if self.is_causal else None
        mixed, _ = self.attention(x, x, x, attn_mask=causal, need_weights=False)
        x = x + self.dropout(mixed)
        x = x + self.dropout(self.feed_forward(x))
        return self.head(x.mean(1) if self.pools else x)


class TinyPair(nn.Module):
    """An encoder-decoder: the mean of the source is added to what the decoder sees."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = TinyTransformer()
        self.source = nn.Embedding(VOCAB_SIZE, VOCAB_SIZE)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        assert decoder_input_ids is not None
        return self.decoder(decoder_input_ids) + self.source(input_ids).mean(1, keepdim=True)


class Letters:
    """A tokenizer of numbers: ``<5>`` for 5."""

    eos_token_id = EOS

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(f"<{number}>" for number in ids)


def make_rows(count: int, *, seed: int = 0, ragged: bool = True) -> list[list[int]]:
    """Counting sequences: easy to learn."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, LENGTH + 1, count) if ragged else [LENGTH] * count
    starts = random.integers(4, VOCAB_SIZE, count)
    return [[4 + (start + i) % (VOCAB_SIZE - 4) for i in range(n)] for start, n in zip(starts, lengths, strict=True)]


def make_split(name: str, count: int, task: str, seed: int) -> TokenSplit:
    rows = make_rows(count, seed=seed)
    targets = RaggedArray.from_rows([[*row[::-1], EOS] for row in rows]) if task == "seq2seq_lm" else None
    labels = {
        "sequence_classification": np.array([row[0] % 3 for row in rows]),
        "multi_label_classification": np.array([[row[0] % 2, row[-1] % 2] for row in rows], dtype=np.int8),
        "regression": np.array([float(row[0]) for row in rows]),
    }
    return TokenSplit(name, RaggedArray.from_rows(rows), targets, labels.get(task), text_bytes=3 * sum(map(len, rows)))


LABEL_NAMES = {"sequence_classification": ("red", "green", "blue"), "multi_label_classification": ("odd", "ends odd")}


def make_splits(task: str = "causal_lm", *, train: int = 22, validation: int = 7) -> TokenSplits:
    """22 rows in batches of 4 make epochs of 5.5: the last batch of each is short."""
    return TokenSplits(
        train=make_split("train", train, task, 1),
        validation=make_split("validation", validation, task, 2),
        test=make_split("test", 5, task, 3),
        task=task,
        vocab_size=VOCAB_SIZE,
        max_length=LENGTH,
        fingerprint="f" * 64,
        special=SPECIAL,
        label_names=LABEL_NAMES.get(task),
    )


def make_model(task: str = "causal_lm") -> nn.Module:
    if task == "seq2seq_lm":
        return TinyPair()
    if task in TEXT_TASKS:
        return TinyTransformer(output_size=len(LABEL_NAMES.get(task, "1")), is_causal=False)
    return TinyTransformer(is_causal=task == "causal_lm")


def make_options(**changes: Any) -> TrainingOptions:
    defaults: dict[str, Any] = {
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "eval_steps": 4,
        "logging_steps": 3,
        "save_steps": 4,
        "device": "cpu",
        "learning_rate": 1e-2,
        "sample_tokens": 4,
    }
    return TrainingOptions(**{**defaults, **changes})


def run(model: nn.Module | None = None, splits: Any = None, **changes: Any) -> list[Event]:
    """Train to the end and return all records."""
    return list(fit(model or make_model(), splits or make_splits(), make_options(**changes)))


def checkpoints(records: Iterable[Event]) -> list[Checkpoint]:
    return [record for record in records if isinstance(record, Checkpoint)]


def history(records: Iterable[Event]) -> list[tuple[int, dict[str, float], tuple[str, ...]]]:
    """Step, metrics and samples of the progress records, without what depends on the machine's speed."""
    return [(record.step, steady(record.metrics), record.samples) for record in records if isinstance(record, Progress)]


def steady(metrics: Any) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in VOLATILE_METRICS}


def assert_same_state(found: TrainingState, expected: TrainingState) -> None:
    """Equal to the bit, the machine's speed excepted."""
    for name in ("model", "optimizer"):
        ours, theirs = ((s.model, s.optimizer.tensors)[name == "optimizer"] for s in (found, expected))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), key
    assert found.optimizer.groups == expected.optimizer.groups
    assert dict(found.scaler) == dict(expected.scaler)
    assert found.random.to_json() == expected.random.to_json()
    assert steady(found.metrics) == steady(expected.metrics)
    ours, theirs = (
        state.checkpointed | {"loop": dataclasses.replace(state.loop, metrics={})} for state in (found, expected)
    )
    assert ours == theirs


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
