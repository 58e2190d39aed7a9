"""Masking of tokens (BERT) and corruption of spans (T5), drawn again for each batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transformer_foundry.core.models.contract import IGNORE_INDEX

__all__ = ["corrupt_spans", "count_spans", "mask_tokens"]


# Shares of BERT (Devlin et al. 2019, 3.1): 15 % are targets; of these 80 % are masked, 10 % replaced, 10 % kept.
# T5 (Raffel et al. 2020, 3.1.4) also drops 15 %, in spans of 3 tokens on average.
_TARGET_SHARE = 0.15
_HIDDEN_SHARE = 0.8
_REPLACED_SHARE = 0.1
_SPAN_LENGTH = 3


def mask_tokens(
    input_ids: np.ndarray,
    attention_mask: np.ndarray,
    random: np.random.Generator,
    *,
    mask_id: int,
    special_ids: Sequence[int],
    ordinary_ids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the targets of a masked language model, at least one, and mask them.

    Args:
        input_ids: (B, T) int64.
        attention_mask: (B, T), 1 for a token, 0 for padding.
        random: Source of the random choices.
        mask_id: Id of the mask token.
        special_ids: Ids that are never masked.
        ordinary_ids: Ids that may replace a token.

    Returns:
        The input ids of the model and the labels, both (B, T) int64.
    """
    allowed = (attention_mask == 1) & ~np.isin(input_ids, special_ids)
    if not allowed.any():
        allowed = attention_mask == 1
    draws = np.where(allowed, random.random(input_ids.shape), 1.0)
    chosen = draws < max(_TARGET_SHARE, np.nextafter(draws.min(), 1.0))
    action = random.random(input_ids.shape)
    replacements = random.choice(ordinary_ids, input_ids.shape)
    hidden = chosen & (action < _HIDDEN_SHARE)
    replaced = chosen & (action >= _HIDDEN_SHARE) & (action < _HIDDEN_SHARE + _REPLACED_SHARE)
    seen = np.where(replaced, replacements, np.where(hidden, mask_id, input_ids))
    return seen, np.where(chosen, input_ids, IGNORE_INDEX)


def corrupt_spans(
    row: np.ndarray, random: np.random.Generator, sentinels: Sequence[int], eos_id: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Replace spans of a row by sentinels; the target is each sentinel followed by the span it replaces.

    Args:
        row: (T,) ids.
        random: Source of the random choices.
        sentinels: Ids of the sentinels, in the order of their use; there are at most as many spans.
        eos_id: Id that ends input and target; None ends neither.

    Returns:
        Input and target, (S,) and (U,) int64; at most one token longer than the row.
    """
    spans = max(1, min(count_spans(len(row)), len(sentinels)))
    hidden = min(max(round(_TARGET_SHARE * len(row)), spans), max(len(row) - spans, 1))
    kept_lengths = _partition(len(row) - hidden, spans, random)
    hidden_lengths = _partition(hidden, spans, random)
    pieces = np.split(row.astype(np.int64), np.cumsum(np.stack([kept_lengths, hidden_lengths], axis=1).ravel())[:-1])
    marks = [np.array([sentinel], np.int64) for sentinel in sentinels[:spans]]
    end = [] if eos_id is None else [np.array([eos_id], np.int64)]
    source = [part for kept, mark in zip(pieces[::2], marks, strict=True) for part in (kept, mark)]
    target = [part for mark, span in zip(marks, pieces[1::2], strict=True) for part in (mark, span)]
    return np.concatenate([*source, *end]), np.concatenate([*target, *end])


def count_spans(length: int) -> int:
    """Return how many spans, and therefore sentinels, a row of ``length`` tokens has."""
    return max(1, round(_TARGET_SHARE * length / _SPAN_LENGTH))


def _partition(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """Return ``parts`` positive lengths that sum to ``total``, drawn uniformly; zeros if ``total`` is too small."""
    if total < parts:
        return np.array([total, *[0] * (parts - 1)])
    cuts = np.sort(random.choice(np.arange(1, total), parts - 1, replace=False)) if parts > 1 else np.empty(0, np.int64)
    return np.diff([0, *cuts.tolist(), total])
