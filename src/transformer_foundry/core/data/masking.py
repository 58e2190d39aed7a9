"""What a model that learns from text alone has to restore: hidden tokens, hidden spans; drawn anew for each batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transformer_foundry.core.models.contract import IGNORE_INDEX

__all__ = ["corrupt_spans", "count_spans", "mask_tokens"]


# Shares of BERT (Devlin et al. 2019, 3.1): 15 % are targets; of these 80 % hidden, 10 % replaced, 10 % left.
# T5 (Raffel et al. 2020, 3.1.4) hides 15 % too, in spans of 3 tokens on average.
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
    """Choose the targets of a masked language model, at least one, and hide them.

    Args:
        input_ids: (B, T) int64.
        attention_mask: (B, T), 1 where a token is real.
        random: Decides what is hidden.
        mask_id: What stands for a hidden token.
        special_ids: Never hidden.
        ordinary_ids: What a token may be replaced by.

    Returns:
        The ids that the model sees and the labels, both (B, T) int64.
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
    """Replace spans of a row by sentinels; the target is each sentinel followed by what it stands for.

    Args:
        row: (T,) ids.
        random: Decides which spans.
        sentinels: As many ids as there may be spans, in the order of their use.
        eos_id: Ends both sides; None ends neither.

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
    target = [part for mark, gone in zip(marks, pieces[1::2], strict=True) for part in (mark, gone)]
    return np.concatenate([*source, *end]), np.concatenate([*target, *end])


def count_spans(length: int) -> int:
    """Return how many spans of a row of so many tokens are hidden: the sentinels that are needed."""
    return max(1, round(_TARGET_SHARE * length / _SPAN_LENGTH))


def _partition(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """Return ``parts`` positive lengths that sum to ``total``, every such list equally likely; zeros if too few."""
    if total < parts:
        return np.array([total, *[0] * (parts - 1)])
    cuts = np.sort(random.choice(np.arange(1, total), parts - 1, replace=False)) if parts > 1 else np.empty(0, np.int64)
    return np.diff([0, *cuts.tolist(), total])
