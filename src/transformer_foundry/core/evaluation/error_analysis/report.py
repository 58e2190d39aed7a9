"""Analyze the errors of a model on one split: the contents of ``error_analysis.json``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.evaluation.assess import evaluation_origin
from transformer_foundry.core.evaluation.error_analysis.predictions import Predictions, is_analyzed, predict_examples
from transformer_foundry.core.evaluation.error_analysis.segments import find_segments
from transformer_foundry.core.evaluation.text_answers import label_list
from transformer_foundry.core.files.provenance import Origin, with_origin
from transformer_foundry.core.models.losses import number_metrics

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.system.precision import Precision

__all__ = ["analyze_errors", "calibration_of", "confusion_of", "label_scores", "number_errors"]

WORST_EXAMPLES = 20
BINS = 10
_SHOWN_CHARACTERS = 300
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_POINTS = 500


def analyze_errors(
    adapter: nn.Module,
    splits: TokenSplits,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    precision: Precision,
    split: str = "validation",
    made_from: Origin | None = None,
    savings: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Any]:
    """Return where a trained model errs; wrong labels in the data are among its worst examples.

    Args:
        adapter: The model with its trained weights; moved to the device of ``precision``.
        splits: The data.
        tokenizer: Turns ids into text.
        batch_size: Rows of a forward pass.
        precision: Device and number format.
        split: "train", "validation" or "test".
        made_from: What the weights are (``TrainingState.made_from``).
        savings: Returns the context of the passes, which saves memory (``core.training.MemorySavings.active``).

    Returns:
        ``task``, ``split``, ``examples``; for classes ``confusion`` (``labels``, ``matrix``: rows are true classes);
        where a text may have several labels ``labels`` (see ``label_scores``); for numbers ``numbers`` (see
        ``number_errors``); ``worst`` (``row``, ``loss``, ``text``, ``expected``, ``predicted``, ``confidence``), the
        highest loss first; ``segments`` (see ``find_segments``); ``calibration`` (``bins``, ``expected_error``). For
        tasks whose examples are blocks of running text only ``task``, ``split`` and ``examples``: 0.
    """
    origin = evaluation_origin(made_from or {}, precision=precision, batch_size=batch_size)
    empty = with_origin({"task": splits.task, "split": split, "examples": 0}, origin)
    if not is_analyzed(splits, split):
        return empty
    adapter.to(precision.device)
    found = predict_examples(adapter, splits, split, batch_size=batch_size, precision=precision, savings=savings)
    if not len(found.rows):
        return empty
    names = splits.label_names
    report = empty | {"examples": len(found.rows)}
    if splits.task == "multi_label_classification":
        report["labels"] = label_scores(found, names or ())
    elif splits.task == "regression":
        report["numbers"] = number_errors(found)
    elif names is not None:
        report["confusion"] = {"labels": list(names), "matrix": confusion_of(found, len(names)).tolist()}
    report["worst"] = _worst(found, splits, tokenizer, split)
    report["segments"] = _segments(found, splits, split)
    if splits.task != "regression":
        report["calibration"] = calibration_of(found)
    return report


def label_scores(found: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each label ``label``, ``examples`` (texts that have it), ``precision``, ``recall`` and ``f1``."""
    scores = []
    for number, name in enumerate(names):
        inside = found.label_of == number
        actual, predicted = found.labels[inside] == 1, found.predictions[inside] == 1
        right = int((actual & predicted).sum())
        scores.append(
            {
                "label": name,
                "examples": int(actual.sum()),
                "precision": right / max(1, int(predicted.sum())),
                "recall": right / max(1, int(actual.sum())),
                "f1": 2 * right / max(1, int(actual.sum() + predicted.sum())),
            }
        )
    return scores


def number_errors(found: Predictions) -> dict[str, Any]:
    """Return the metrics of all numbers, ``quarters`` and ``points``.

    Quarters of the true numbers have ``low``, ``high``, ``examples``, the mean ``error`` (predicted - true: a model
    that has learned little is too high in the lowest quarter and too low in the highest) and ``rmse``; points are
    (true, predicted) of the first examples.
    """
    errors = found.predictions - found.labels
    edges = np.unique(np.quantile(found.labels, _QUARTERS))
    quarters = []
    for low, high in itertools.pairwise(edges.tolist()):
        inside = (found.labels >= low) & ((found.labels <= high) if high == edges[-1] else (found.labels < high))
        if inside.any():
            error, rmse = float(errors[inside].mean()), float(np.sqrt(np.mean(errors[inside] ** 2)))
            quarters.append({"low": low, "high": high, "examples": int(inside.sum()), "error": error, "rmse": rmse})
    pairs = np.stack([found.labels, found.predictions], axis=1)[:_POINTS].tolist()
    return {**number_metrics(found.predictions, found.labels), "quarters": quarters, "points": pairs}


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
                "expected": _name(found.labels[targets], found.label_of[targets], splits, tokenizer),
                "predicted": _name(found.predictions[targets], found.label_of[targets], splits, tokenizer),
                "confidence": _mean_confidence(found.confidences[targets]),
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
    if splits.task == "multi_label_classification":
        numbers["number of labels"] = np.bincount(found.example_of, found.labels == 1, minlength=len(found.rows))
    if splits.task == "regression":
        numbers["true number"] = found.labels
        return find_segments(found.losses, None, numbers, names)
    return find_segments(found.losses, found.accuracies, numbers, names)


def _mean_confidence(confidences: np.ndarray) -> float | None:
    """Return the mean confidence, 0 without targets; None for numbers, which have none."""
    mean = float(confidences.mean()) if len(confidences) else 0.0
    return None if np.isnan(mean) else mean


def _name(ids: np.ndarray, label_of: np.ndarray, splits: TokenSplits, tokenizer: Tokenizer) -> str:
    if splits.task == "regression":
        return ", ".join(f"{number:.4g}" for number in ids)
    if splits.task == "multi_label_classification":
        return label_list(label_of[ids == 1].tolist(), splits.label_names)[:_SHOWN_CHARACTERS]
    if splits.label_names is None:
        return _text(tokenizer, ids)
    return " ".join(splits.label_names[int(number)] for number in ids)[:_SHOWN_CHARACTERS]


def _text(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    return tokenizer.decode([int(number) for number in ids])[:_SHOWN_CHARACTERS]
