"""Baselines without a network: results that training has to beat."""

from __future__ import annotations

import numpy as np

from transformer_foundry.core.data.dataloading.batches import Batches
from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenized.memmap import RaggedArray
from transformer_foundry.core.models.contract import IGNORE_INDEX

__all__ = ["bigram_loss", "measure_baselines", "naive_bayes_accuracy", "unigram_loss"]

_FIT_TOKENS = 2_000_000  # more tokens hardly change the counts and take memory
_SCORE_TOKENS = 500_000
_SCORE_ROWS = 20_000
_HELD_OUT_SHARE = 0.1  # of the train tokens, to choose the smoothing
_SMOOTHING = tuple(float(2**power) for power in range(-2, 13))  # pseudo-counts of the unigram in a bigram


def measure_baselines(splits: TokenSplits) -> dict[str, float]:
    """Fit the baselines of the task on train and score them on validation.

    Returns:
        ``unigram_loss`` (language models and sequence to sequence) and ``bigram_loss`` (causal) in nats per target
        token; ``prior_loss`` in nats, ``majority_accuracy`` and ``naive_bayes_accuracy`` (classification);
        ``prior_loss``, ``every_label_micro_f1`` and ``naive_bayes_micro_f1`` (several labels a text); ``mean_loss`` in
        variances of the training numbers, ``mean_rmse`` and ``median_mae`` in their units (regression).
    """
    train, validation, size = splits.train, splits.validation, splits.vocab_size
    if train.labels is not None and validation.labels is not None:
        if splits.task == "regression":
            return _number_baselines(train.labels, validation.labels, splits.target_scale)
        if splits.task == "multi_label_classification":
            return _label_baselines(train, validation, splits.vocab_size)
        return _classification_baselines(train, validation, splits)
    if train.token_labels is not None and validation.token_labels is not None:
        return _tagging_baselines(train, validation, splits)
    if splits.task == "seq2seq_lm" and train.target_ids is None:
        fitted, scored = _span_targets(splits, "train", _FIT_TOKENS), _span_targets(splits, "validation", _SCORE_TOKENS)
        return {"unigram_loss": unigram_loss(fitted, scored, size)}
    if train.target_ids is not None and validation.target_ids is not None:
        fitted, scored = train.target_ids.values[:_FIT_TOKENS], validation.target_ids.values[:_SCORE_TOKENS]
        return {"unigram_loss": unigram_loss(fitted, scored, size)}
    fitted, scored = train.input_ids.values[:_FIT_TOKENS], validation.input_ids.values[:_SCORE_TOKENS]
    if train.answer_marks is not None and validation.answer_marks is not None:
        learned = np.flatnonzero(train.answer_marks.values[: len(fitted)][1:] == 1) + 1
        asked = np.flatnonzero(validation.answer_marks.values[: len(scored)][1:] == 1) + 1
        if not len(asked):
            return {}
        unigram = unigram_loss(fitted[learned], scored[asked], size)
        return {"unigram_loss": unigram, "bigram_loss": bigram_loss(fitted, scored, size, asked)}
    baselines = {"unigram_loss": unigram_loss(fitted, scored[1:], size)}
    if splits.task == "causal_lm":
        baselines["bigram_loss"] = bigram_loss(fitted, scored, size)
    return baselines


def unigram_loss(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> float:
    """Return the cross-entropy of token frequencies with add-one smoothing, in nats per token."""
    return float(-np.log(_unigram(train, vocab_size))[validation].mean())


def bigram_loss(train: np.ndarray, validation: np.ndarray, vocab_size: int, places: np.ndarray | None = None) -> float:
    """Return the cross-entropy of an interpolated bigram, in nats per token.

    p(b | a) = (count(a b) + s p(b)) / (count(a) + s), with p(b) the unigram (MacKay and Peto 1995). The weight s is
    the one with the lowest loss on the last tenth of the train tokens, after counting the others.

    Args:
        train: (tokens,) ids.
        validation: (tokens,) ids.
        vocab_size: Number of ids.
        places: (targets,) positions of the tokens of ``validation`` that are scored, from 1; None scores all but the
            first.
    """
    cut = len(train) - max(2, int(len(train) * _HELD_OUT_SHARE))
    if cut < 2:
        return unigram_loss(train, validation[1:] if places is None else validation[places], vocab_size)
    tuned = _Bigram(train[:cut], vocab_size)
    losses = [tuned.loss(train[cut:], smoothing) for smoothing in _SMOOTHING]
    return _Bigram(train, vocab_size).loss(validation, _SMOOTHING[int(np.argmin(losses))], places)


def naive_bayes_accuracy(
    train: RaggedArray, train_labels: np.ndarray, rows: RaggedArray, labels: np.ndarray, vocab_size: int
) -> float:
    """Return the accuracy of multinomial naive Bayes over token counts with add-one smoothing."""
    classes = int(max(train_labels.max(), labels.max())) + 1
    fitted = max(1, int(np.searchsorted(train.offsets, _FIT_TOKENS, side="right")) - 1)
    cells = (
        np.repeat(train_labels[:fitted], train.lengths()[:fitted]) * vocab_size + train.values[: train.offsets[fitted]]
    )
    counts = np.bincount(cells, minlength=classes * vocab_size).reshape(classes, vocab_size) + 1.0
    weights = np.log(counts / counts.sum(axis=1, keepdims=True))
    prior = np.log(np.bincount(train_labels, minlength=classes) + 1.0)
    scored = min(len(rows), _SCORE_ROWS)
    predicted = [int(np.argmax(prior + weights[:, rows[row]].sum(axis=1))) for row in range(scored)]
    return float(np.mean(np.array(predicted) == labels[:scored]))


def _classification_baselines(train: TokenSplit, validation: TokenSplit, splits: TokenSplits) -> dict[str, float]:
    assert train.labels is not None
    assert validation.labels is not None
    classes = max(len(splits.label_names or ()), int(train.labels.max()) + 1)
    counts = np.bincount(train.labels, minlength=classes) + 1.0
    return {
        "prior_loss": float(-np.log(counts / counts.sum())[validation.labels].mean()),
        "majority_accuracy": float(np.mean(validation.labels == counts.argmax())),
        "naive_bayes_accuracy": naive_bayes_accuracy(
            train.input_ids, train.labels, validation.input_ids, validation.labels, splits.vocab_size
        ),
    }


def _number_baselines(train: np.ndarray, validation: np.ndarray, scale: tuple[float, float] | None) -> dict[str, float]:
    """Return the errors of the constants that fit the training numbers best: their mean, and their median."""
    if scale is None or not len(validation):
        return {}
    squared = float(np.mean((validation - scale[0]) ** 2))
    return {
        "mean_loss": squared / scale[1] ** 2,
        "mean_rmse": float(np.sqrt(squared)),
        "median_mae": float(np.mean(np.abs(validation - np.median(train)))),
    }


def _label_baselines(train: TokenSplit, validation: TokenSplit, vocab_size: int) -> dict[str, float]:
    """Return the loss of the frequencies of the labels, and F1 of giving every label and of naive Bayes for each."""
    assert train.labels is not None
    assert validation.labels is not None
    labels, wanted = np.asarray(train.labels), np.asarray(validation.labels)
    present, known = (labels == 1).sum(0) + 1.0, (labels != IGNORE_INDEX).sum(0) + 2.0
    prior, is_known = present / known, wanted != IGNORE_INDEX
    losses = -np.log(np.where(wanted == 1, prior, 1 - prior))
    fitted = max(1, int(np.searchsorted(train.input_ids.offsets, _FIT_TOKENS, side="right")) - 1)
    rows = np.repeat(np.arange(fitted), train.input_ids.lengths()[:fitted])
    tokens = np.asarray(train.input_ids.values[: len(rows)], np.int64)
    counts = np.ones((2, labels.shape[1], vocab_size))
    for side in (0, 1):
        for label in range(labels.shape[1]):
            counts[side, label] += np.bincount(tokens[labels[rows, label] == side], minlength=vocab_size)
    weights = np.log(counts / counts.sum(-1, keepdims=True))
    ratio = weights[1] - weights[0]
    scored = min(len(validation), _SCORE_ROWS)
    scores = np.stack([ratio[:, validation.input_ids[row]].sum(1) for row in range(scored)])
    guesses = scores + np.log(prior / (1 - prior)) > 0
    return {
        "prior_loss": float(losses[is_known].mean()),
        "every_label_micro_f1": _micro_f1(np.ones_like(wanted, bool), wanted),
        "naive_bayes_micro_f1": _micro_f1(guesses, wanted[:scored]),
    }


def _micro_f1(guessed: np.ndarray, wanted: np.ndarray) -> float:
    """Return F1 over all labels of all texts: (rows, labels) guesses, and 1, 0 or -100."""
    guessed, actual = guessed & (wanted != IGNORE_INDEX), wanted == 1
    return float(2 * (guessed & actual).sum() / max(1, guessed.sum() + actual.sum()))


def _tagging_baselines(train: TokenSplit, validation: TokenSplit, splits: TokenSplits) -> dict[str, float]:
    """Return the baselines of tokens; naive Bayes over one token is the most frequent class of the token."""
    size, classes = splits.vocab_size, len(splits.label_names or ())
    (tokens, tags), (scored, expected) = (_labeled_tokens(split) for split in (train, validation))
    cells = np.bincount(tokens * classes + tags, minlength=size * classes).reshape(size, classes)
    prior = np.bincount(tags, minlength=classes) + 1.0
    best = np.where(cells.any(axis=1), cells.argmax(axis=1), prior.argmax())
    return {
        "prior_loss": float(-np.log(prior / prior.sum())[expected].mean()),
        "majority_accuracy": float(np.mean(expected == prior.argmax())),
        "naive_bayes_accuracy": float(np.mean(best[scored] == expected)),
    }


def _labeled_tokens(split: TokenSplit) -> tuple[np.ndarray, np.ndarray]:
    assert split.token_labels is not None
    tags = np.asarray(split.token_labels.values[:_FIT_TOKENS], np.int64)
    tokens = np.asarray(split.input_ids.values[:_FIT_TOKENS], np.int64)
    return tokens[tags != IGNORE_INDEX], tags[tags != IGNORE_INDEX]


def _span_targets(splits: TokenSplits, name: str, limit: int) -> np.ndarray:
    """Return the target tokens of the decoder in one pass over a split, up to ``limit``."""
    batches = Batches(splits.splits[name], splits, batch_size=256)
    found: list[np.ndarray] = []
    for position in range(len(batches)):
        labels = batches.batch(position)["labels"].numpy()
        found.append(labels[labels != IGNORE_INDEX])
        if sum(map(len, found)) >= limit:
            break
    return np.concatenate(found)


class _Bigram:
    """Sparse counts of token pairs: a table for a vocabulary of 50,000 would take 20 GB."""

    def __init__(self, tokens: np.ndarray, vocab_size: int) -> None:
        self._size = vocab_size
        self._unigram = _unigram(tokens, vocab_size)
        self._firsts = np.bincount(tokens[:-1], minlength=vocab_size).astype(np.float64)
        self._pairs, self._counts = np.unique(self._encode(tokens), return_counts=True)

    def loss(self, tokens: np.ndarray, smoothing: float, places: np.ndarray | None = None) -> float:
        """Return the mean negative log-probability of the tokens at ``places``, or all but the first, in nats."""
        pairs = self._encode(tokens)
        found = np.searchsorted(self._pairs, pairs).clip(max=len(self._pairs) - 1)
        counts = np.where(self._pairs[found] == pairs, self._counts[found], 0)
        first, second = tokens[:-1], tokens[1:]
        losses = -np.log((counts + smoothing * self._unigram[second]) / (self._firsts[first] + smoothing))
        return float((losses if places is None else losses[places - 1]).mean())

    def _encode(self, tokens: np.ndarray) -> np.ndarray:
        wide = np.asarray(tokens, dtype=np.int64)
        return np.asarray(wide[:-1] * self._size + wide[1:])


def _unigram(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    counts = np.bincount(tokens, minlength=vocab_size) + 1.0
    return np.asarray(counts / counts.sum())
