"""How good a model is on a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from transformer_foundry.core.training.objectives import Objective, objective_for
from transformer_foundry.core.training.precision import Precision
from transformer_foundry.core.training.update import move_batch

if TYPE_CHECKING:
    from transformer_foundry.core.data.splits import TokenSplit, TokenSplits

__all__ = ["BatchSource", "evaluate", "evaluation_batches", "measure", "training_batches"]


class BatchSource(Protocol):
    """Micro-batches by position; ``core.data.Batches`` is one."""

    def __len__(self) -> int: ...

    def batch(self, position: int) -> Mapping[str, Tensor]:
        """Return the micro-batch at ``position``, always the same; epoch = position // len."""
        ...


def training_batches(splits: TokenSplits, *, batch_size: int, seed: int) -> BatchSource:
    """Return the shuffled micro-batches of the training split."""
    return _open(splits, splits.train, batch_size=batch_size, seed=seed, shuffle=True)


def evaluation_batches(splits: TokenSplits, split: str = "validation", *, batch_size: int) -> BatchSource | None:
    """Return the batches of ``split`` in order, always the same; None if it has no rows."""
    rows = splits.splits[split]
    return _open(splits, rows, batch_size=batch_size, seed=0, shuffle=False) if len(rows) else None


def evaluate(
    adapter: nn.Module,
    splits: TokenSplits,
    split: str = "validation",
    *,
    batch_size: int = 16,
    max_batches: int | None = None,
    precision: Precision | None = None,
) -> dict[str, float]:
    """Measure ``adapter`` on a split of ``splits``.

    Args:
        adapter: On the device of ``precision``; its train or eval mode is put back afterwards.
        splits: ``core.data.TokenSplits``.
        split: "train", "validation" or "test".
        batch_size: Rows of a forward pass.
        max_batches: At most this many batches, from the start; None takes all.
        precision: Device and number format; by default fp32 where the model is.

    Returns:
        ``loss`` (nats per target), ``targets``, ``accuracy``; for tokens ``perplexity``; for causal language models
        ``bits_per_byte`` of the text behind the targets. Empty if the split has no rows.
    """
    batches = evaluation_batches(splits, split, batch_size=batch_size)
    if batches is None:
        return {}
    if precision is None:
        precision = Precision(next(adapter.parameters()).device, torch.float32)
    objective = objective_for(splits.task)
    found = measure(adapter, objective, batches, precision, max_batches=max_batches)
    bytes_per_target = _bytes_per_target(splits.splits[split]) if splits.task == "causal_lm" else None
    if bytes_per_target:
        found["bits_per_byte"] = found["loss"] / math.log(2) / bytes_per_target
    return found


@torch.no_grad()
def measure(
    adapter: nn.Module,
    objective: Objective,
    batches: BatchSource,
    precision: Precision,
    *,
    max_batches: int | None = None,
) -> dict[str, float]:
    """Return the metrics of ``objective`` over ``batches``; the adapter's train or eval mode is put back."""
    was_training = adapter.training
    adapter.eval()
    try:
        sums: dict[str, list[Tensor]] = {"loss": []}
        target_count = 0
        for position in range(min(len(batches), max_batches or len(batches))):
            batch = batches.batch(position)
            target_count += objective.count_targets(batch)
            with precision.autocast():
                parts = objective.loss(adapter, move_batch(batch, precision.device), with_metrics=True)
            for name, value in {"loss": parts.loss_sum, **parts.metric_sums}.items():
                sums.setdefault(name, []).append(value)
    finally:
        adapter.train(was_training)
    totals = {name: math.fsum(torch.stack(values).tolist()) for name, values in sums.items()}
    return {**objective.metrics(totals.pop("loss"), target_count, totals), "targets": float(target_count)}


def _bytes_per_target(split: TokenSplit) -> float | None:
    """Mean UTF-8 bytes behind a target of a split of causal language modelling."""
    return split.text_bytes / split.target_count if split.text_bytes and split.target_count else None


def _open(splits: TokenSplits, split: TokenSplit, *, batch_size: int, seed: int, shuffle: bool) -> BatchSource:
    from transformer_foundry.core.data.batches import Batches

    return Batches(split, splits, batch_size=batch_size, seed=seed, shuffle=shuffle)
