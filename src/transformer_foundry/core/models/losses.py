"""The training loss of each task.

Labels are aligned with the ids they label, and -100 is ignored. Only causal language modeling shifts labels, and only
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError, suggestion
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.inference.own_loss import OwnTerms
from transformer_foundry.core.models.options import TASKS

__all__ = ["Batch", "LossParts", "TaskLoss", "number_metrics", "task_loss_for"]

Batch = Mapping[str, Tensor]

_MODEL_INPUTS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


@dataclass(frozen=True)
class LossParts:
    """Sums of a batch that add up over batches; divide by ``TaskLoss.count_targets``.

    Attributes:
        loss_sum: Summed loss, scalar float32: cross-entropy in nats, or squared errors of numbers.
        metric_sums: Further sums over the targets, such as ``correct``: scalars, or (C,) with one number per class.
        own_terms: Terms of the model's own loss, times the targets of the batch; None without them. They are no part of
            ``loss_sum``, so that losses of models can be compared.
        values: Values of each target, (N,), for metrics that are no sums: ``predicted`` and ``actual`` numbers.
    """

    loss_sum: Tensor
    metric_sums: Mapping[str, Tensor]
    values: Mapping[str, Tensor] = field(default_factory=dict)
    own_terms: Tensor | None = None

    @property
    def trained(self) -> Tensor:
        """The sum that training minimizes: the loss and the model's own terms."""
        return self.loss_sum if self.own_terms is None else self.loss_sum + self.own_terms


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a task.

    Attributes:
        task: One of ``core.models.options.TASKS``.
        shifts_labels: Whether position t predicts the label of position t + 1.
        next_token_only: Whether the model predicts only the token after the last one it gets: the last token of a row
            is its only target, and the model gets those before it.
        target_mean: Mean of the numbers of the training split (regression).
        target_std: Their standard deviation: the model predicts (number - mean) / std, as a new head starts near 0 and
            one learning rate has to suit all units.
        own_terms: How the terms of the model's own loss are computed, which are added in training; None without them.
    """

    task: str
    shifts_labels: bool
    next_token_only: bool = False
    target_mean: float = 0.0
    target_std: float = 1.0
    own_terms: OwnTerms | None = None

    def loss(
        self, adapter: nn.Module, batch: Batch, *, label_smoothing: float = 0.0, with_metrics: bool = False
    ) -> LossParts:
        """Return the summed loss of ``batch``; differentiable if gradients are enabled.

        Args:
            adapter: Takes the batch's inputs as keywords, returns logits (B, T, V), (B, S, V), (B, T, C) or (B, C).
            batch: Inputs of the adapter and ``labels``, on its device.
            label_smoothing: Share of the target probability that is spread over all classes, 0 to 1.
            with_metrics: Whether to compute ``metric_sums`` and ``values`` (an argmax over all logits).
        """
        inputs = {name: batch[name] for name in _MODEL_INPUTS if name in batch}
        if self.next_token_only:
            inputs = {name: tensor[:, :-1] for name, tensor in inputs.items()}
        if self.own_terms is not None and torch.is_grad_enabled():
            logits, own_loss = adapter(**inputs, own_terms=self.own_terms, labels=batch["labels"])
            parts = self._compare(logits, batch["labels"], label_smoothing, with_metrics=with_metrics)
            return replace(parts, own_terms=self.own_terms.of(logits, own_loss) * self._targets(batch))
        return self._compare(adapter(**inputs), batch["labels"], label_smoothing, with_metrics=with_metrics)

    def _compare(self, logits: Tensor, labels: Tensor, label_smoothing: float, *, with_metrics: bool) -> LossParts:
        if self.task == "regression":
            return self._squared_error(logits, labels, with_metrics=with_metrics)
        if self.task == "multi_label_classification":
            return _binary_cross_entropy(logits, labels, label_smoothing, with_metrics=with_metrics)
        if self.next_token_only:
            labels = labels[:, -1:]
        elif self.shifts_labels:
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
        return batch["labels"].numel() if self.task == "regression" else int(self._targets(batch))

    def _targets(self, batch: Batch) -> Tensor:
        first = -1 if self.next_token_only else int(self.shifts_labels)
        labels = batch["labels"][:, first:] if first else batch["labels"]
        return (labels != IGNORE_INDEX).sum()

    def metrics(
        self,
        loss_sum: float,
        target_count: int,
        metric_sums: Mapping[str, Any],
        values: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Return ``loss`` per target, and the metrics of the task.

        ``perplexity`` if targets are tokens, ``accuracy``, and ``macro_f1``: the mean F1 score of the classes that
        occur in targets or predictions. For several labels a text ``micro_f1`` and ``macro_f1`` at a probability of
        0.5, and ``exact_match``, the share of texts with no wrong label. For numbers ``rmse`` and ``mae`` in their
        units, ``pearson`` and ``spearman``; the loss is in variances of the training numbers.
        """
        loss = loss_sum / max(1, target_count)
        found = {"loss": loss}
        if self.task.endswith("_lm"):
            found["perplexity"] = math.exp(loss) if loss < 700 else math.inf
        if "correct" in metric_sums:
            found["accuracy"] = metric_sums["correct"] / max(1, target_count)
        if "label_correct" in metric_sums:
            found["micro_f1"] = 2 * sum(metric_sums["label_correct"]) / max(1, sum(metric_sums["label_seen"]))
            found["macro_f1"] = _macro_f1(metric_sums["label_correct"], metric_sums["label_seen"])
            found["exact_match"] = metric_sums["exact"] / max(1, metric_sums["texts"])
        if "class_correct" in metric_sums:
            found["macro_f1"] = _macro_f1(metric_sums["class_correct"], metric_sums["class_seen"])
        return found | (number_metrics(values["predicted"], values["actual"]) if values else {})

    def predicted_numbers(self, logits: Tensor) -> Tensor:
        """Return the numbers that (B, 1) raw scores of a regression mean, (B,) float64, in the units of the data."""
        return logits.reshape(-1).double() * self.target_std + self.target_mean

    def _squared_error(self, logits: Tensor, labels: Tensor, *, with_metrics: bool) -> LossParts:
        # Standardized in float64: the year 2024 differs from 2025 by less than half a precision of float16.
        wanted = ((labels.double() - self.target_mean) / self.target_std).float()
        loss_sum = F.mse_loss(logits.reshape(-1).float(), wanted, reduction="sum")
        values = {"predicted": self.predicted_numbers(logits), "actual": labels.double()} if with_metrics else {}
        return LossParts(loss_sum, {}, values)

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


def _binary_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, *, with_metrics: bool) -> LossParts:
    """Return the summed loss of (B, C) logits; labels are (B, L) of 0, 1 and -100, where L outputs are used."""
    logits = logits[:, : labels.size(1)].float()
    is_known = labels != IGNORE_INDEX
    wanted = torch.where(is_known, labels, 0).float()
    smoothed = wanted * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    loss_sum = torch.where(is_known, losses, 0.0).sum()
    if not with_metrics:
        return LossParts(loss_sum, {})
    predicted, actual = (logits > 0) & is_known, (wanted > 0) & is_known
    sums = {
        "label_correct": (predicted & actual).sum(0),
        "label_seen": predicted.sum(0) + actual.sum(0),
        "exact": (predicted == actual).all(1).sum(),
        "texts": torch.tensor(len(labels), device=labels.device),
    }
    return LossParts(loss_sum, sums)


def number_metrics(predicted: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """Return ``rmse``, ``mae``, ``pearson`` and ``spearman`` of predicted and actual numbers, (N,) each.

    A correlation with numbers that are all equal is 0.
    """
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if not len(actual):
        return {}
    errors = predicted - actual
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(np.abs(errors))),
        "pearson": _correlation(predicted, actual),
        "spearman": _correlation(_ranks(predicted), _ranks(actual)),
    }


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / norm if norm > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of the values; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[places])


def _macro_f1(correct: Sequence[float], seen: Sequence[float]) -> float:
    """Return the mean of 2 * correct / (predicted + actual), summed in ``seen``, over the classes that occur."""
    scores = [2 * right / total for right, total in zip(correct, seen, strict=True) if total]
    return sum(scores) / max(1, len(scores))


def task_loss_for(
    task: str, adapter: nn.Module | None = None, target_scale: tuple[float, float] | None = None
) -> TaskLoss:
    """Return the loss of ``task`` for the model of ``adapter``, whose contract may name what it predicts.

    Args:
        task: One of ``core.models.options.TASKS``.
        adapter: The model; None if it predicts the token after each.
        target_scale: Mean and standard deviation of the training numbers (regression); None takes numbers as they are.

    Raises:
        TrainingError: If the task is unknown.
    """
    if task not in TASKS:
        raise TrainingError(
            f"model.task is {task!r}.{suggestion(task, TASKS)}",
            f"Expected one of: {', '.join(TASKS)}.",
            "Set model.task to one of them.",
        )
    next_token_only = getattr(getattr(adapter, "contract", None), "next_token_only", False)
    mean, std = target_scale or (0.0, 1.0)
    return TaskLoss(task, task == "causal_lm", next_token_only, mean, std)
