"""``analyse_errors``: all that is said about the errors of a model on one split, ready for json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.evaluation.error_analysis.predictions import ANALYSED_TASKS, Outcomes, examine
from transformer_foundry.core.evaluation.error_analysis.segments import find_segments

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["analyse_errors", "calibration_of", "confusion_of"]

WORST_EXAMPLES = 20
BINS = 10
_SHOWN_CHARACTERS = 300


def analyse_errors(
    adapter: nn.Module,
    splits: TokenSplits,
    tokenizer: Tokenizer,
    options: TrainingOptions,
    *,
    split: str = "validation",
) -> dict[str, Any]:
    """Say where a trained model errs; wrong labels in the data are among its worst examples.

    Args:
        adapter: The model with its trained weights; moved to the device of training.
        splits: The data.
        tokenizer: Turns ids into text.
        options: Device, precision, batch size.
        split: "train", "validation" or "test".

    Returns:
        ``task``, ``split``, ``examples``; for classes ``confusion`` (``labels``, ``matrix``: rows are true classes);
        ``worst`` (``row``, ``loss``, ``text``, ``expected``, ``predicted``, ``confidence``), the highest loss first;
        ``segments`` (see ``find_segments``); ``calibration`` (``bins`` and ``expected_error``). For tasks whose
        examples are blocks of running text only ``task``, ``split`` and ``examples``: 0.
    """
    from transformer_foundry.core.system.precision import choose_precision

    nothing = {"task": splits.task, "split": split, "examples": 0}
    if splits.task not in ANALYSED_TASKS or splits.splits[split].is_packed(splits.task):
        return nothing
    precision = choose_precision(options.device, options.precision)
    adapter.to(precision.device)
    found = examine(adapter, splits, split, batch_size=options.rows_per_evaluation_batch, precision=precision)
    if not len(found.rows):
        return nothing
    names = splits.label_names
    report = nothing | {"examples": len(found.rows)}
    if names is not None:
        report["confusion"] = {"labels": list(names), "matrix": confusion_of(found, len(names)).tolist()}
    report["worst"] = _worst(found, splits, tokenizer, split)
    report["segments"] = _segments(found, splits, split)
    report["calibration"] = calibration_of(found)
    return report


def confusion_of(found: Outcomes, classes: int) -> np.ndarray:
    """Return how often class i was taken for class j, (C, C) int64."""
    return np.bincount(found.labels * classes + found.predictions, minlength=classes * classes).reshape(classes, -1)


def calibration_of(found: Outcomes) -> dict[str, Any]:
    """Return how often predictions of a confidence are right, and the expected calibration error.

    The error is the mean distance of confidence and accuracy over ten bins of equal width, weighted with their
    predictions (Guo et al. 2017).
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


def _worst(found: Outcomes, splits: TokenSplits, tokenizer: Tokenizer, split: str) -> list[dict[str, Any]]:
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


def _segments(found: Outcomes, splits: TokenSplits, split: str) -> list[dict[str, Any]]:
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
