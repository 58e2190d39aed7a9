"""Predict every example of a split, with its loss and the confidence of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.losses import TaskLoss, task_loss_for
from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.system.precision import Precision

__all__ = ["Predictions", "is_analyzed", "predict_examples"]

_ANALYZED_TASKS = (*TEXT_TASKS, "token_classification", "seq2seq_lm")

MAX_EXAMPLES = 4096
"""Number of examples that are analyzed, from the start of the split."""

_CHUNK_BYTES = 64 * 2**20
"""Memory of the float32 probabilities that exist at a time, as in a loss in chunks."""


def is_analyzed(splits: TokenSplits, split: str = "validation") -> bool:
    """Return whether the examples of a split are texts that can be read, not blocks of running text."""
    return splits.task in _ANALYZED_TASKS and not splits.splits[split].is_packed(splits.task)


@dataclass(frozen=True)
class Predictions:
    """Examples in the order of the batches, and their targets, concatenated.

    Attributes:
        rows: (N,) int64 numbers of the rows of the split.
        losses: (N,) mean loss of an example per target.
        accuracies: (N,) share of its targets that were predicted.
        example_of: (M,) int64, for each target the position of its example in ``rows``.
        labels: (M,) int64 targets: classes, tokens, or 1 and 0 for a label that applies or not; float64 numbers.
        predictions: (M,) the likeliest class or token, 1 and 0, or the number.
        confidences: (M,) probability of the prediction; NaN for numbers.
        label_of: (M,) int64, for each target the number of its label, where a text may have several; else 0.
    """

    rows: np.ndarray
    losses: np.ndarray
    accuracies: np.ndarray
    example_of: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    label_of: np.ndarray


def predict_examples(
    adapter: nn.Module,
    splits: TokenSplits,
    split: str = "validation",
    *,
    batch_size: int,
    precision: Precision,
    max_examples: int = MAX_EXAMPLES,
    savings: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Predictions:
    """Return the loss and the predictions of every example of a split; the model's mode is restored.

    Args:
        adapter: On the device of ``precision``.
        splits: The data.
        split: "train", "validation" or "test".
        batch_size: Rows of a forward pass.
        precision: Device and number format.
        max_examples: Number of examples at most.
        savings: Returns the context of the passes, which saves memory.
    """
    import torch

    from transformer_foundry.core.data.dataloading.batches import Batches, move_batch

    rows = splits.splits[split]
    objective = task_loss_for(splits.task, adapter, splits.target_scale)
    was_training = adapter.training
    adapter.eval()
    parts: list[dict[str, np.ndarray]] = []
    found: list[np.ndarray] = []
    try:
        batches = Batches(rows, splits, batch_size=batch_size) if len(rows) else None
        count = 0 if batches is None else -(-min(len(rows), max_examples) // batch_size)
        for position in range(count):
            assert batches is not None
            with torch.no_grad(), savings(), precision.autocast():
                moved = move_batch(batches.batch(position), precision.device)
                parts.append(_predict_batch(adapter, objective, moved))
            found.append(batches.rows(position))
    finally:
        adapter.train(was_training)
    return _join(found, parts)


def _predict_batch(adapter: nn.Module, objective: TaskLoss, batch: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return flat arrays over the targets of a batch; ``example`` is the row in the batch."""
    labels: Tensor = batch["labels"]
    logits = adapter(**{name: value for name, value in batch.items() if name != "labels"}).float()
    if objective.task == "regression":
        values = _compare_numbers(objective, logits, labels)
    elif objective.task == "multi_label_classification":
        values = _compare_labels(logits, labels)
    else:
        values = _compare_classes(logits, labels)
    return {name: value.cpu().numpy() for name, value in values.items()}


def _compare_numbers(objective: TaskLoss, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    import torch

    predicted = objective.predicted_numbers(logits)
    return {
        "example": torch.arange(len(labels)),
        "loss": ((predicted - labels) / objective.target_std) ** 2,
        "label": labels,
        "prediction": predicted,
        "confidence": torch.full_like(predicted, float("nan")),
        "label_of": torch.zeros(len(labels), dtype=torch.int64),
    }


def _compare_labels(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    import torch
    import torch.nn.functional as F

    example, label_of = torch.nonzero(labels != IGNORE_INDEX, as_tuple=True)
    scores, targets = logits[example, label_of], labels[example, label_of]
    return {
        "example": example,
        "loss": F.binary_cross_entropy_with_logits(scores, targets.float(), reduction="none"),
        "label": targets,
        "prediction": (scores > 0).long(),
        "confidence": scores.abs().sigmoid(),
        "label_of": label_of,
    }


def _compare_classes(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    import torch
    import torch.nn.functional as F

    flat_labels, flat_logits = labels.reshape(-1), logits.reshape(-1, logits.size(-1))
    places = torch.nonzero(flat_labels != IGNORE_INDEX).squeeze(1)
    scores: list[tuple[Tensor, Tensor, Tensor]] = []
    for chunk in places.split(max(1, _CHUNK_BYTES // (4 * logits.size(-1)))):
        row_logits = flat_logits[chunk]
        confidence, prediction = row_logits.softmax(-1).max(-1)
        scores.append((confidence, prediction, F.cross_entropy(row_logits, flat_labels[chunk], reduction="none")))
    confidences, predictions, losses = (torch.cat(found) for found in zip(*scores, strict=True))
    targets = flat_labels[places]
    width = labels.numel() // len(labels)
    return {
        "example": places // width,
        "loss": losses,
        "label": targets,
        "prediction": predictions,
        "confidence": confidences,
        "label_of": torch.zeros_like(targets),
    }


def _join(rows: list[np.ndarray], parts: list[dict[str, np.ndarray]]) -> Predictions:
    starts = np.cumsum([0, *map(len, rows)])
    example = _concatenate([part["example"] + start for part, start in zip(parts, starts, strict=False)], np.int64)
    loss = _concatenate([part["loss"] for part in parts], np.float64)
    dtype = np.float64 if parts and parts[0]["label"].dtype.kind == "f" else np.int64
    labels = _concatenate([part["label"] for part in parts], dtype)
    predictions = _concatenate([part["prediction"] for part in parts], dtype)
    count = int(starts[-1])
    targets = np.maximum(1, np.bincount(example, minlength=count))
    return Predictions(
        rows=_concatenate(rows, np.int64),
        losses=np.bincount(example, weights=loss, minlength=count) / targets,
        accuracies=np.bincount(example, weights=labels == predictions, minlength=count) / targets,
        example_of=example,
        labels=labels,
        predictions=predictions,
        confidences=_concatenate([part["confidence"] for part in parts], np.float64),
        label_of=_concatenate([part["label_of"] for part in parts], np.int64),
    )


def _concatenate(arrays: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)
