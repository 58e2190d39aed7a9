"""The answer of a classifier or a regression in words: classes, the labels that apply, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformer_foundry.core.models.losses import task_loss_for

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["answer_text", "class_name", "label_list", "true_text"]

_NO_LABEL = "none"


def answer_text(
    scores: Tensor, task: str, names: Sequence[str] | None, target_scale: tuple[float, float] | None = None
) -> str:
    """Return what the raw scores of a text, or of each of its tokens, mean.

    Args:
        scores: (C,) or (T, C) raw scores.
        task: One of ``core.models.options.TEXT_TASKS``, or ``token_classification``.
        names: Names of the classes or labels.
        target_scale: Mean and standard deviation of the training numbers (regression).
    """
    if task == "regression":
        return f"{float(task_loss_for(task, target_scale=target_scale).predicted_numbers(scores)[0]):.4g}"
    if task == "multi_label_classification":
        return label_list((scores > 0).nonzero().flatten().tolist(), names)
    return " ".join(class_name(number, names) for number in scores.argmax(-1).reshape(-1).tolist())


def true_text(labels: Tensor, task: str, names: Sequence[str] | None) -> str:
    """Return the labels in words: () for a class or a number, (L,) for several labels, (T,) for those of tokens."""
    if task == "regression":
        return f"{float(labels):.4g}"
    if task == "multi_label_classification":
        return label_list((labels == 1).nonzero().flatten().tolist(), names)
    return " ".join(class_name(number, names) for number in labels.reshape(-1).tolist())


def class_name(number: int, names: Sequence[str] | None) -> str:
    """Return the name of a class, its number if it has none."""
    return str(number) if names is None or not 0 <= number < len(names) else names[number]


def label_list(numbers: Sequence[int], names: Sequence[str] | None) -> str:
    """Return the names of labels in a sentence: "toxic, insult", or "none"."""
    return ", ".join(class_name(number, names) for number in numbers) or _NO_LABEL
