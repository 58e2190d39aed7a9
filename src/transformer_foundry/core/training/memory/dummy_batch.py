"""Batches of random tokens in the format of a task, for verification and measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BatchShape"]


@dataclass(frozen=True)
class BatchShape:
    """Format and largest size of the batches of a run.

    Attributes:
        task: One of ``core.models.options.TASKS``.
        vocab_size: Number of token ids.
        length: Tokens of the longest row, of the source and of the target.
        num_labels: Classes of a classifier, or labels that a text may have.
        decoder_vocab_size: Token ids of a decoder with its own vocabulary.
    """

    task: str
    vocab_size: int
    length: int
    num_labels: int = 2
    decoder_vocab_size: int | None = None

    def logits_bytes(self, rows: int) -> int:
        """Return the size of the float32 logits over the vocabulary of ``rows`` rows; 0 for a classifier."""
        is_lm = self.task.endswith("_lm")
        return rows * self.length * (self.decoder_vocab_size or self.vocab_size) * 4 if is_lm else 0

    def batch(self, rows: int, length: int | None = None) -> dict[str, Tensor]:
        """Return a batch of ``rows`` rows of ``length`` tokens (default: the longest) on the CPU, always the same."""
        shape = (rows, min(length or self.length, self.length))
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab_size, shape, generator=generator)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.task == "seq2seq_lm":
            targets = torch.randint(self.decoder_vocab_size or self.vocab_size, shape, generator=generator)
            masks = {"decoder_attention_mask": torch.ones_like(targets)}
            return {**batch, "decoder_input_ids": targets, **masks, "labels": targets.clone()}
        if self.task == "regression":
            labels = torch.randn(rows, generator=generator, dtype=torch.float64)
        elif self.task == "multi_label_classification":
            labels = torch.randint(2, (rows, self.num_labels), generator=generator)
        elif self.task == "sequence_classification":
            labels = torch.randint(self.num_labels, (rows,), generator=generator)
        elif self.task == "token_classification":
            labels = torch.randint(self.num_labels, shape, generator=generator)
        else:
            labels = ids.clone()
        return {**batch, "labels": labels}
