"""Judge a smaller variant of a file by its predictions instead of exact logits.

With labelled rows (the test split), their perplexity or accuracy decides. Otherwise the divergence of its predictions
from the model's decides: exp(divergence) is the factor by which perplexity rises on text sampled from the model.
Importing this module loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transformer_foundry.core.export.verification.parity import Case, compare, compared_logits, is_plain, place_of
from transformer_foundry.core.models.contract import IGNORE_INDEX

__all__ = ["LARGEST_CHANGE", "Score", "difference", "judge_variant", "score_logits"]

LARGEST_CHANGE = 0.01
"""Largest rise of perplexity or root mean squared error, or fall of accuracy, relative to the model's."""

# A single shape has few positions to average over; beyond these limits a file is wrong there, not just inexact.
_LARGEST_DIVERGENCE_OF_A_CASE = 0.1
_LARGEST_RELATIVE_ERROR = 0.25


@dataclass(frozen=True)
class Score:
    """Score of predictions on labelled rows.

    Attributes:
        targets: Number of labels that are not ignored.
        loss_sum: Summed cross-entropy in nats, or squared errors of numbers.
        correct: Number of labels with the greatest logit, or of decisions for and against a label that are right.
        metric: ``perplexity`` for labels of positions, ``accuracy`` for labels of rows, ``rmse`` for numbers.
    """

    targets: int
    loss_sum: float
    correct: int
    metric: str

    @property
    def value(self) -> float:
        """The metric."""
        share = 1.0 / max(1, self.targets)
        if self.metric == "rmse":
            return math.sqrt(self.loss_sum * share)
        return self.correct * share if self.metric == "accuracy" else math.exp(min(700.0, self.loss_sum * share))

    @staticmethod
    def total(scores: Iterable[Score]) -> Score | None:
        """Return the score of all rows, None if all labels are ignored."""
        parts = [score for score in scores if score.targets]
        if not parts:
            return None
        targets, correct = (sum(getattr(part, name) for part in parts) for name in ("targets", "correct"))
        return Score(targets, sum(part.loss_sum for part in parts), correct, parts[0].metric)


def score_logits(logits: np.ndarray, labels: np.ndarray) -> Score:
    """Score ``logits`` against ``labels``; -100 is ignored.

    Args:
        logits: (..., C).
        labels: (...) int64 aligned with the logits, (B, L) of 0 and 1 where a text may have several labels, or (B,)
            floating-point numbers.

    Example:
        >>> score_logits(np.array([[0.0, 0.0], [0.0, 5.0]]), np.array([-100, 1])).correct
        1
    """
    if labels.dtype.kind == "f":
        return Score(len(labels), float(((logits.reshape(-1).astype(np.float64) - labels) ** 2).sum()), 0, "rmse")
    if logits.ndim == labels.ndim:
        scores, known = logits[:, : labels.shape[1]].astype(np.float64), labels != IGNORE_INDEX
        right = (scores > 0) == (labels == 1)
        binary = np.logaddexp(0.0, np.where(labels == 1, -scores, scores))
        return Score(int(known.sum()), float(binary[known].sum()), int(right[known].sum()), "accuracy")
    metric = "accuracy" if labels.ndim == 1 else "perplexity"
    counted = labels != IGNORE_INDEX
    kept, wanted = logits[counted], labels[counted]
    losses = -np.take_along_axis(_log_softmax(kept), wanted[:, None], 1)
    return Score(len(wanted), float(losses.sum()), int((kept.argmax(-1) == wanted).sum()), metric)


def difference(case: Case, logits: np.ndarray) -> dict[str, Any]:
    """Compare ``logits`` with those of ``case``: ``max_abs_error``, ``relative_error``, ``divergence``, ``problem``.

    The relative error is the root mean square of the differences by that of the logits about their mean, or about 0 for
    one number a text; the divergence is the mean of KL(model || variant) over positions, in nats.
    """
    error, problem = compare(case, logits)
    row: dict[str, Any] = {"max_abs_error": error, "problem": problem, "relative_error": None, "divergence": None}
    if problem:
        return row
    expected, found = (compared_logits(case, values).astype(np.float64) for values in (case.logits, logits))
    plain = is_plain(expected)
    # One number a text has no spread of its own.
    center = expected[plain].mean() if plain.any() and expected.shape[-1] > 1 else 0.0
    scale = np.sqrt(np.mean((expected[plain] - center) ** 2)) if plain.any() else 0.0
    deviation = np.sqrt(np.mean((expected[plain] - found[plain]) ** 2)) if plain.any() else 0.0
    row["relative_error"] = float(deviation / max(scale, 1e-6))
    before, after = _log_softmax(expected), _log_softmax(found)
    with np.errstate(invalid="ignore"):
        parts = np.where(np.isfinite(before) & np.isfinite(after), np.exp(before) * (before - after), 0.0)
    row["divergence"] = float(max(0.0, parts.sum(-1).mean())) if parts.size else 0.0
    return row


def judge_variant(
    rows: Sequence[Mapping[str, Any]], failure: str, score: Score | None, reference: Score | None
) -> tuple[str, dict[str, Any]]:
    """Return why a variant is not accurate enough (empty if it is), and the measurements that decided.

    Args:
        rows: Rows of ``difference``.
        failure: Why the file could not be run, empty if it could.
        score: Score of the variant on labelled rows.
        reference: Score of the model on the same rows; None without rows.
    """
    for row in rows:
        if problem := row["problem"] or _inaccuracy(row):
            return f"{problem} {place_of(row)}", {}
    if failure:
        return failure, {}
    if reference is not None:
        assert score is not None, "the verifying process succeeded without a score"
        return _judge_score(score, reference)
    rise = math.expm1(float(np.mean([row["divergence"] for row in rows])))
    judged = {"judged_by": "divergence from the model's predictions", "relative_change": rise}
    if rise > LARGEST_CHANGE:
        return f"perplexity on the model's own predictions would rise by {rise:.2%}; {_ALLOWED}", judged
    return "", judged


_ALLOWED = f"at most {LARGEST_CHANGE:.0%} is allowed"


def _judge_score(score: Score, reference: Score) -> tuple[str, dict[str, Any]]:
    metric, value, expected = score.metric, score.value, reference.value
    change = (value - expected) / max(abs(expected), 1e-12)
    judged = {
        "judged_by": f"{metric} on rows of the test split",
        "targets": score.targets,
        metric: value,
        f"model_{metric}": expected,
        "relative_change": change,
    }
    worse = -change if metric == "accuracy" else change
    if not worse <= LARGEST_CHANGE:
        return f"{metric} changes from {expected:.4g} to {value:.4g} ({100 * change:+.3g} %); {_ALLOWED}", judged
    return "", judged


def _inaccuracy(row: Mapping[str, Any]) -> str:
    if row["relative_error"] > _LARGEST_RELATIVE_ERROR:
        return f"logits differ by {row['relative_error']:.0%} of their spread"
    if row["divergence"] > _LARGEST_DIVERGENCE_OF_A_CASE:
        return f"predictions diverge by {row['divergence']:.2g} nats"
    return ""


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    values = values - values.max(-1, keepdims=True, initial=-1e30)
    return np.asarray(values - np.log(np.exp(values).sum(-1, keepdims=True)))
