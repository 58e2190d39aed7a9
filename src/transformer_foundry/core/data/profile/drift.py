"""Differences between the validation and the training split: tokens and labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["measure_drift"]

_TOKENS = 1_000_000  # of the training split
_SCORED_TOKENS = 100_000  # of the validation split, and of each sample that it is compared with
_SAMPLES = 20
_CLEARLY_MORE = 1.25  # times the divergence of the most unusual sample of the training split
_EXCESS_NATS = 0.01  # above that sample: of many tokens, smaller differences are real, and of no consequence
_LABEL_DRAWS = 4999  # random splits with the labels of train and validation; p is at least 1 / 5000
_LABEL_CHUNK = 1_000_000  # counts in memory at a time


def measure_drift(splits: TokenSplits) -> dict[str, Any]:
    """Compare validation with train, and samples of train with train to estimate differences by chance.

    A sample has as many tokens as the validation split, in as many runs as that has documents: neighboring tokens are
    dependent, so a few long documents differ from the others by chance.

    Returns:
        ``token_divergence``: the Jensen-Shannon divergence of the token frequencies, in nats (0 equal, 0.69
        disjoint), ``token_divergence_by_chance``: the largest of 20 samples, ``has_drifted``, and ``label_distance``:
        half the summed difference of the shares of the classes (0 to 1), with ``label_distance_by_chance``: the
        mean distance of random splits of the same labels, and ``label_p_value``: the share of these splits whose
        chi-square is at least as large; all None without classes.
    """
    train = np.asarray(splits.train.input_ids.values[:_TOKENS])
    validation = np.asarray(splits.validation.input_ids.values[:_SCORED_TOKENS])
    size = min(len(validation), len(train) // 2)
    divergence = by_chance = 0.0
    if size:
        whole = np.bincount(train, minlength=splits.vocab_size)
        divergence = _jensen_shannon(whole, np.bincount(validation[:size], minlength=splits.vocab_size))
        runs = max(1, min(splits.validation.documents, size))
        random = np.random.default_rng(0)
        for _ in range(_SAMPLES):
            starts = random.integers(0, len(train) - size // runs + 1, runs)
            sample = np.bincount(train[starts[:, None] + np.arange(size // runs)].ravel(), minlength=splits.vocab_size)
            # The sample is part of the whole, the validation split is not.
            by_chance = max(by_chance, _jensen_shannon(whole - np.minimum(sample, whole), sample))
    return {
        "token_divergence": round(divergence, 5),
        "token_divergence_by_chance": round(by_chance, 5),
        "has_drifted": divergence > max(_CLEARLY_MORE * by_chance, by_chance + _EXCESS_NATS),
        **_compare_labels(splits),
    }


def _jensen_shannon(left: np.ndarray, right: np.ndarray) -> float:
    """Return the divergence of two counts, in nats."""
    p, q = left / max(left.sum(), 1), right / max(right.sum(), 1)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(share > 0, share * np.log(share / middle), 0.0) for share in (p, q)]
    return float(sum(term.sum() for term in terms) / 2)


def _compare_labels(splits: TokenSplits) -> dict[str, float | None]:
    """Compare the shares of the classes by a permutation test, which is exact for few labels and rare classes too."""
    train, validation = splits.train.labels, splits.validation.labels
    has_classes = splits.task == "sequence_classification" and train is not None and validation is not None
    if not has_classes or train is None or validation is None or not len(train) or not len(validation):
        return {"label_distance": None, "label_distance_by_chance": None, "label_p_value": None}
    classes = int(max(train.max(), validation.max())) + 1
    held_out = np.bincount(validation, minlength=classes)
    both = held_out + np.bincount(train, minlength=classes)
    held_out, both = held_out[both > 0], both[both > 0]
    expected = both * (len(validation) / both.sum())
    random = np.random.default_rng(0)
    observed = float(((held_out - expected) ** 2 / expected).sum())
    as_large, distance_sum = 0, 0.0
    chunk = max(1, min(_LABEL_DRAWS, _LABEL_CHUNK // len(both)))
    for start in range(0, _LABEL_DRAWS, chunk):
        drawn = random.multivariate_hypergeometric(
            both, len(validation), min(chunk, _LABEL_DRAWS - start), method="marginals"
        )
        as_large += int((((drawn - expected) ** 2 / expected).sum(1) >= observed * (1 - 1e-9)).sum())
        distance_sum += float(_distances(drawn, both).sum())
    return {
        "label_distance": round(float(_distances(held_out[None], both)[0]), 4),
        "label_distance_by_chance": round(distance_sum / _LABEL_DRAWS, 4),
        "label_p_value": (as_large + 1) / (_LABEL_DRAWS + 1),
    }


def _distances(held_out: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Return half the summed difference of the shares: counts (draws, classes) against the rest, (draws,)."""
    left = both - held_out
    return np.asarray(np.abs(held_out / held_out.sum(1)[:, None] - left / left.sum(1)[:, None]).sum(1) / 2)
