"""Loss and metrics of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.data.dataloading.batches import BatchSource, evaluation_batches, move_batch
from transformer_foundry.core.models.losses import TaskLoss, task_loss_for
from transformer_foundry.core.system.distributed import SINGLE_PROCESS, ProcessGroup
from transformer_foundry.core.system.precision import Precision

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits

__all__ = ["evaluate", "measure"]


def evaluate(
    adapter: nn.Module,
    splits: TokenSplits,
    split: str = "validation",
    *,
    batch_size: int = 16,
    max_batches: int | None = None,
    precision: Precision | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> dict[str, float]:
    """Measure ``adapter`` on a split of ``splits``.

    Args:
        adapter: On the device of ``precision``; its train or eval mode is restored.
        splits: ``core.data.TokenSplits``.
        split: "train", "validation" or "test".
        batch_size: Rows of a forward pass.
        max_batches: At most this many batches, from the start; None takes all.
        precision: Device and number format; by default fp32 on the device of the model.
        processes: The processes that share the batches; all must call this function.

    Returns:
        ``loss`` per target, ``targets`` and the metrics of ``TaskLoss.metrics``; for causal language models also
        ``bits_per_byte`` of the text behind the targets. Empty if the split has no rows.
    """
    batches = evaluation_batches(splits, split, batch_size=batch_size)
    if batches is None:
        return {}
    if precision is None:
        precision = Precision(next(adapter.parameters()).device, torch.float32)
    objective = task_loss_for(splits.task, adapter, splits.target_scale)
    found = measure(adapter, objective, batches, precision, max_batches=max_batches, processes=processes)
    bytes_per_target = _bytes_per_target(splits.splits[split]) if splits.task == "causal_lm" else None
    if bytes_per_target:
        found["bits_per_byte"] = found["loss"] / math.log(2) / bytes_per_target
    return found


@torch.no_grad()
def measure(
    adapter: nn.Module,
    objective: TaskLoss,
    batches: BatchSource,
    precision: Precision,
    *,
    max_batches: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> dict[str, float]:
    """Return the metrics of ``objective`` over ``batches``; the adapter's train or eval mode is restored."""
    was_training = adapter.training
    adapter.eval()
    sums: dict[str, list[Tensor]] = {}
    values: dict[str, list[Tensor]] = {}
    target_count = 0
    try:
        for position in processes.rank_slice(min(len(batches), max_batches or len(batches))):
            batch = batches.batch(position)
            target_count += objective.count_targets(batch)
            with precision.autocast():
                parts = objective.loss(adapter, move_batch(batch, precision.device), with_metrics=True)
            for name, value in {"loss": parts.loss_sum, **parts.metric_sums}.items():
                sums.setdefault(name, []).append(value)
            for name, value in parts.values.items():
                values.setdefault(name, []).append(value)
    finally:
        adapter.train(was_training)
    totals: dict[str, Any] = {name: torch.stack(values).double().sum(0).tolist() for name, values in sums.items()}
    totals, target_count = _add_up(totals, target_count, processes)
    together = _join({name: torch.cat(found).cpu().numpy() for name, found in values.items()}, processes)
    return {**objective.metrics(totals.pop("loss"), target_count, totals, together), "targets": float(target_count)}


def _join(values: dict[str, np.ndarray], processes: ProcessGroup) -> dict[str, np.ndarray]:
    """Return the values of all processes; a process without a batch takes the names from the others."""
    if processes.world_size == 1:
        return values
    everything = processes.all_gather(values)
    names = {name for found in everything for name in found}
    return {name: np.concatenate([found[name] for found in everything if name in found]) for name in names}


def _add_up(totals: Mapping[str, Any], target_count: int, processes: ProcessGroup) -> tuple[dict[str, Any], int]:
    """Add the totals of all processes; a process without a batch takes the names from the others."""
    if processes.world_size == 1:
        return dict(totals), target_count
    everything = processes.all_gather({**totals, "targets": target_count})
    names = {name for found in everything for name in found}
    added = {name: np.sum([found[name] for found in everything if name in found], axis=0).tolist() for name in names}
    return {name: value for name, value in added.items() if name != "targets"}, int(added["targets"])


def _bytes_per_target(split: TokenSplit) -> float | None:
    """Mean UTF-8 bytes behind a target of a split of causal language modelling."""
    return split.text_bytes / split.target_count if split.text_bytes and split.target_count else None
