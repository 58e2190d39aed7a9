"""Analyze the errors of a model on one split: the contents of ``error_analysis.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.evaluation.error_analysis.predictions import ANALYZED_TASKS, Predictions, predict_examples
from transformer_foundry.core.evaluation.error_analysis.segments import find_segments

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.system.precision import Precision

__all__ = ["analyze_errors", "calibration_of", "confusion_of"]

WORST_EXAMPLES = 20
BINS = 10
_SHOWN_CHARACTERS = 300


def analyze_errors(
    adapter: nn.Module,
    splits: TokenSplits,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    precision: Precision,
    split: str = "validation",
) -> dict[str, Any]:
    """Return where a trained model errs; wrong labels in the data are among its worst examples.

    Args:
        adapter: The model with its trained weights; moved to the device of ``precision``.
        splits: The data.
        tokenizer: Turns ids into text.
        batch_size: Rows of a forward pass.
        precision: Device and number format.
        split: "train", "validation" or "test".

    Returns:
        ``task``, ``split``, ``examples``; for classes ``confusion`` (``labels``, ``matrix``: rows are true classes);
        ``worst`` (``row``, ``loss``, ``text``, ``expected``, ``predicted``, ``confidence``), the highest loss first;
        ``segments`` (see ``find_segments``); ``calibration`` (``bins`` and ``expected_error``). For tasks whose
        examples are blocks of running text only ``task``, ``split`` and ``examples``: 0.
    """
    empty = {"task": splits.task, "split": split, "examples": 0}
    if splits.task not in ANALYZED_TASKS or splits.splits[split].is_packed(splits.task):
        return empty
    adapter.to(precision.device)
    found = predict_examples(adapter, splits, split, batch_size=batch_size, precision=precision)
    if not len(found.rows):
        return empty
    names = splits.label_names
    report = empty | {"examples": len(found.rows)}
    if names is not None:
        report["confusion"] = {"labels": list(names), "matrix": confusion_of(found, len(names)).tolist()}
    report["worst"] = _worst(found, splits, tokenizer, split)
    report["segments"] = _segments(found, splits, split)
    report["calibration"] = calibration_of(found)
    return report


def confusion_of(found: Predictions, classes: int) -> np.ndarray:
    """Return the confusion matrix (C, C) int64: how often class i was predicted as class j."""
    return np.bincount(found.labels * classes + found.predictions, minlength=classes * classes).reshape(classes, -1)


def calibration_of(found: Predictions) -> dict[str, Any]:
    """Return how often predictions of a confidence are right, and the expected calibration error.

    The error is the mean distance of confidence and accuracy over ten bins of equal width, weighted by their
    number of predictions (Guo et al. 2017).
    """
    places = np.minimum((found.confidences * BINS).astype(int), BINS - 1)
    is_right = found.labels == found.predictions
    bins = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            confidence, accuracy = float(found.confidences[inside].mean()), float(is_right[inside].mean())
            bins.append({"confidence": confidence, "accuracy": accuracy, "targets": int(inside.sum())})
    error = sum(entry["targets"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins) / len(places)
    return {"bins": bins, "expected_error": error}


def _worst(found: Predictions, splits: TokenSplits, tokenizer: Tokenizer, split: str) -> list[dict[str, Any]]:
    rows = splits.splits[split]
    worst = []
    for example in np.argsort(-found.losses, kind="stable")[:WORST_EXAMPLES]:
        targets = np.flatnonzero(found.example_of == example)
        row = int(found.rows[example])
        worst.append(
            {
                "row": row,
                "loss": float(found.losses[example]),
                "text": _text(tokenizer, rows.input_ids[row]),
                "expected": _name(found.labels[targets], splits, tokenizer),
                "predicted": _name(found.predictions[targets], splits, tokenizer),
                "confidence": float(found.confidences[targets].mean()) if len(targets) else 0.0,
            }
        )
    return worst


def _segments(found: Predictions, splits: TokenSplits, split: str) -> list[dict[str, Any]]:
    rows = splits.splits[split]
    numbers = {"length in tokens": rows.input_ids.lengths(found.rows)}
    if rows.target_ids is not None:
        numbers["length of the target"] = rows.target_ids.lengths(found.rows)
    names = {}
    if splits.task == "sequence_classification" and splits.label_names is not None:
        names["class"] = np.array(splits.label_names)[found.labels]
    if splits.special.unk is not None:
        unknown = np.array([splits.special.unk in rows.input_ids[int(row)] for row in found.rows])
        names["unknown tokens"] = np.where(unknown, "some", "none")
    return find_segments(found.losses, found.accuracies, numbers, names)


def _name(ids: np.ndarray, splits: TokenSplits, tokenizer: Tokenizer) -> str:
    if splits.label_names is None:
        return _text(tokenizer, ids)
    return " ".join(splits.label_names[int(number)] for number in ids)[:_SHOWN_CHARACTERS]


def _text(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    return tokenizer.decode([int(number) for number in ids])[:_SHOWN_CHARACTERS]
