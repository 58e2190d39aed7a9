"""The training loss of each task.

Labels are aligned with the ids they label, and -100 is ignored. Only causal language modeling shifts labels, and only
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError, suggestion
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.options import TASKS

__all__ = ["Batch", "LossParts", "TaskLoss", "task_loss_for"]

Batch = Mapping[str, Tensor]

_MODEL_INPUTS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


@dataclass(frozen=True)
class LossParts:
    """Sums of a batch that add up over batches; divide by ``TaskLoss.count_targets``.

    Attributes:
        loss_sum: Summed cross-entropy, scalar float32, in nats.
        metric_sums: Further sums over the targets, such as ``correct``: scalars, or (C,) with one number per class.
    """

    loss_sum: Tensor
    metric_sums: Mapping[str, Tensor]


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a task.

    Attributes:
        task: One of ``core.models.options.TASKS``.
        shifts_labels: Whether position t predicts the label of position t + 1.
    """

    task: str
    shifts_labels: bool

    def loss(
        self, adapter: nn.Module, batch: Batch, *, label_smoothing: float = 0.0, with_metrics: bool = False
    ) -> LossParts:
        """Return the summed loss of ``batch``; differentiable if gradients are enabled.

        Args:
            adapter: Takes the batch's inputs as keywords, returns logits (B, T, V), (B, S, V), (B, T, C) or (B, C).
            batch: Inputs of the adapter and ``labels``, on its device.
            label_smoothing: Share of the target probability that is spread over all classes, 0 to 1.
            with_metrics: Whether to compute ``metric_sums`` (an argmax over all logits).
        """
        logits = adapter(**{name: batch[name] for name in _MODEL_INPUTS if name in batch})
        labels = batch["labels"]
        if self.shifts_labels:
            logits, labels = logits[:, :-1], labels[:, 1:]
        logits, labels = logits.reshape(-1, logits.size(-1)), labels.reshape(-1)
        # The sum of exponentials is too inexact in half precision.
        loss_sum = F.cross_entropy(
            logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=label_smoothing
        )
        sums = self._metric_sums(logits, labels) if with_metrics else {}
        return LossParts(loss_sum, sums)

    def count_targets(self, batch: Batch) -> int:
        """Return the number of targets of a batch. On a GPU this synchronizes with the device."""
        labels = batch["labels"][:, 1:] if self.shifts_labels else batch["labels"]
        return int((labels != IGNORE_INDEX).sum())

    def metrics(self, loss_sum: float, target_count: int, metric_sums: Mapping[str, Any]) -> dict[str, float]:
        """Return ``loss`` (nats per target), ``perplexity`` if targets are tokens, ``accuracy`` and ``macro_f1``.

        ``macro_f1`` is the mean F1 score of the classes that occur in targets or predictions.
        """
        loss = loss_sum / max(1, target_count)
        found = {"loss": loss}
        if self.task.endswith("_lm"):
            found["perplexity"] = math.exp(loss) if loss < 700 else math.inf
        if "correct" in metric_sums:
            found["accuracy"] = metric_sums["correct"] / max(1, target_count)
        if "class_correct" in metric_sums:
            found["macro_f1"] = _macro_f1(metric_sums["class_correct"], metric_sums["class_seen"])
        return found

    def _metric_sums(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the metric sums of logits (N, C) and labels (N,)."""
        predicted, has_target = logits.argmax(-1), labels != IGNORE_INDEX
        is_correct = (predicted == labels) & has_target
        sums = {"correct": is_correct.sum()}
        if self.task.endswith("_classification"):
            classes = logits.size(-1)
            sums["class_correct"] = F.one_hot(predicted[is_correct], classes).sum(0)
            sums["class_seen"] = F.one_hot(torch.cat([predicted[has_target], labels[has_target]]), classes).sum(0)
        return sums


def _macro_f1(correct: Sequence[float], seen: Sequence[float]) -> float:
    """Return the mean of 2 * correct / (predicted + actual), summed in ``seen``, over the classes that occur."""
    scores = [2 * right / total for right, total in zip(correct, seen, strict=True) if total]
    return sum(scores) / max(1, len(scores))


def task_loss_for(task: str) -> TaskLoss:
    """Return the loss of ``task``.

    Raises:
        TrainingError: If the task is unknown.
    """
    if task not in TASKS:
        raise TrainingError(
            f"model.task is {task!r}.{suggestion(task, TASKS)}",
            f"Expected one of: {', '.join(TASKS)}.",
            "Set model.task to one of them.",
        )
    return TaskLoss(task, shifts_labels=task == "causal_lm")
