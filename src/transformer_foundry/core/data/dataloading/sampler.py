"""The order of rows, computed for any position directly, in memory that does not depend on the number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["EpochSampler", "permute"]

_ROUNDS = 6
_WINDOW_BATCHES = 512  # rows are sorted by length within this many batches
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the usual odd constant of multiplicative hashing


class EpochSampler:
    """The rows of every batch of one epoch.

    Rows are shuffled by a keyed permutation that is computed, not stored. With ``lengths``, the rows of a window of 512
    batches are sorted by length and cut into batches, and the batches of the window are shuffled: the rows of a batch
    then have similar lengths, and its composition still changes with the epoch.

    Args:
        rows: Number of rows.
        batch_size: Rows of a batch; the last one may have fewer.
        key: Key of the permutation, such as seed and epoch; None keeps the order of the rows.
        lengths: Returns the lengths of rows, (N, sides) with one side or two; None does not sort.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        key: tuple[int, ...] | None,
        lengths: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self._key = key
        self._lengths = lengths
        self._window: tuple[int, np.ndarray, np.ndarray] | None = None

    def batch(self, index: int) -> np.ndarray:
        """Return the numbers of the rows of batch ``index``, (B,) int64."""
        if self._key is None:
            return np.arange(index * self._batch_size, min((index + 1) * self._batch_size, self._rows))
        window, offset = divmod(index, _WINDOW_BATCHES)
        if self._window is None or self._window[0] != window:
            self._window = (window, *self._open_window(window, self._key))
        _, rows, order = self._window
        start = int(order[offset]) * self._batch_size
        return rows[start : start + self._batch_size]

    def _open_window(self, window: int, key: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a window and the order of its batches; a short batch remains the last one."""
        size = _WINDOW_BATCHES * self._batch_size
        positions = np.arange(window * size, min((window + 1) * size, self._rows), dtype=np.uint64)
        rows = permute(positions, self._rows, _round_keys(key)).astype(np.int64)
        order = np.arange(math.ceil(len(rows) / self._batch_size))
        if self._lengths is not None:
            full = len(rows) // self._batch_size
            # The rows of the short batch are not sorted, or it would always have the longest rows.
            head = rows[: full * self._batch_size]
            rows[: len(head)] = head[_by_length(self._lengths(head), self._batch_size)]
            order[:full] = np.random.default_rng((*key, window)).permutation(full)
        return rows, order


def _by_length(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Return an order in which rows of similar lengths are consecutive.

    With two sides, groups of rows with similar first sides are sorted by their second sides. The padding of both is
    smallest if there are as many groups as batches in a group.
    """
    order = np.argsort(lengths[:, 0], kind="stable")
    if lengths.shape[1] == 1:
        return order
    batches = len(order) // batch_size
    group = batch_size * max(1, round(math.sqrt(batches)))
    parts = (order[start : start + group] for start in range(0, len(order), group))
    return np.concatenate([part[np.argsort(lengths[part, 1], kind="stable")] for part in parts] or [order])


def permute(positions: np.ndarray, size: int, round_keys: np.ndarray) -> np.ndarray:
    """Return a permutation of ``range(size)`` at ``positions``: a Feistel network with cycle walking.

    Luby and Rackoff 1988; cycle walking as in Black and Rogaway 2002. The cost is the same for every position.

    Args:
        positions: (N,) uint64 below ``size``.
        size: Size of the range.
        round_keys: (6,) uint64, the key of the permutation.

    Returns:
        (N,) uint64, distinct for distinct ``positions``.
    """
    half = max(1, math.ceil(math.log2(max(size, 2)) / 2))
    found = _feistel(positions, np.uint64(half), round_keys)
    while (outside := found >= size).any():
        found[outside] = _feistel(found[outside], np.uint64(half), round_keys)
    return found


def _round_keys(key: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(key).integers(0, 2**64, _ROUNDS, np.uint64)


def _feistel(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        mixed = (right ^ key) * np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(_GOLDEN)
        left, right = right, left ^ ((mixed >> np.uint64(40)) & mask)
    return np.asarray((left << half) | right)
