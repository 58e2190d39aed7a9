"""Near-duplicates: texts that share most of their eight-byte shingles, found in one pass with files on the disk.

Each text has a signature of 64 numbers by one-permutation hashing (Li, Owen, Zhang 2012); the share of equal numbers
in two signatures estimates the Jaccard similarity of their shingles. Ten bands of six numbers find the candidates.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

__all__ = ["SIMILARITY", "NearDuplicates"]

SIMILARITY = 0.8
"""Jaccard similarity from which two texts are near-duplicates."""

_SHINGLE = 8  # bytes
_SHORTEST = 32  # bytes; shorter texts must be equal except for case and spaces
_LONGEST = 2**16  # bytes; the rest of a text is ignored
_NUMBERS, _BANDS, _BAND_SIZE = 64, 10, 6  # finds a pair of similarity 0.8 with probability 0.95, 0.9 with 0.999
_BOUNDS = np.arange(_NUMBERS, dtype=np.uint64) << np.uint64(58)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_ODD = np.random.default_rng(0).integers(0, 2**63, (_BANDS, _BAND_SIZE), np.uint64) * np.uint64(2) + np.uint64(1)
_CHECKED_AT_ONCE = 100_000  # pairs


class NearDuplicates:
    """Collects texts one by one, then groups the near-duplicates; keeps 104 bytes per text on the disk."""

    def __init__(self) -> None:
        self._signatures: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by groups()
        self._bands: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by groups()
        self._count = 0

    def add(self, text: str) -> None:
        """Add the next text."""
        numbers = _signature(" ".join(text.lower().split()).encode("utf-8", "replace"), self._count)
        bands = (numbers[: _BANDS * _BAND_SIZE].reshape(_BANDS, _BAND_SIZE) * _ODD).sum(axis=1)
        self._signatures.write((numbers & np.uint64(0xFF)).astype(np.uint8).tobytes())
        self._bands.write((bands >> np.uint64(32)).astype(np.uint32).tobytes())
        self._count += 1

    def groups(self) -> np.ndarray:
        """Return the number of the first text of the group of each text, (texts,) int64, and delete the files."""
        firsts = np.arange(self._count)
        if self._count:
            self._signatures.flush()
            signatures = np.memmap(self._signatures, np.uint8, "r").reshape(-1, _NUMBERS)
            for band in range(_BANDS):
                for left, right in _pairs(_read_band(self._bands, band)):
                    alike = (signatures[left] == signatures[right]).mean(axis=1) >= SIMILARITY
                    _join(firsts, left[alike], right[alike])
            while not np.array_equal(roots := firsts[firsts], firsts):
                firsts = roots
        self._signatures.close()
        self._bands.close()
        return firsts


def _signature(text: bytes, number: int) -> np.ndarray:
    """Return the smallest hash of a shingle in each 64th of the range of hashes, (64,) uint64."""
    if len(text) < _SHORTEST:
        # Empty texts are not duplicates of each other.
        digest = hashlib.blake2b(text or b"\0%d" % number, digest_size=_NUMBERS).digest()
        return np.frombuffer(digest, np.uint8).astype(np.uint64) * _MULTIPLIER >> np.uint64(8)
    shingles = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text[:_LONGEST], np.uint8), _SHINGLE)
    hashes = np.ascontiguousarray(shingles).view("<u8")[:, 0] * _MULTIPLIER
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MULTIPLIER
    hashes ^= hashes >> np.uint64(29)
    hashes.sort()
    # An empty part of the range takes the next hash ("rotation", Shrivastava and Li 2014).
    return hashes[np.searchsorted(hashes, _BOUNDS) % len(hashes)]


def _read_band(file: IO[bytes], band: int) -> np.ndarray:
    """Return one band of each text, (texts,) uint32, without loading the others."""
    file.seek(0)
    parts = []
    while chunk := file.read(_CHECKED_AT_ONCE * _BANDS * 4):
        parts.append(np.frombuffer(chunk, np.uint32).reshape(-1, _BANDS)[:, band].copy())
    return np.concatenate(parts)


def _pairs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of consecutive texts with equal keys, in batches."""
    order = np.argsort(keys, kind="stable")
    places = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    for start in range(0, len(places), _CHECKED_AT_ONCE):
        part = places[start : start + _CHECKED_AT_ONCE]
        yield order[part], order[part + 1]


def _join(firsts: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        low, high = sorted((_find(firsts, one), _find(firsts, other)))
        firsts[high] = low


def _find(firsts: np.ndarray, number: int) -> int:
    root = number
    while firsts[root] != root:
        root = int(firsts[root])
    while firsts[number] != root:
        firsts[number], number = root, int(firsts[number])
    return root
