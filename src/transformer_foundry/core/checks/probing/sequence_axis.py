"""Axis of a tensor that runs over the positions."""

from __future__ import annotations

from torch import Tensor

__all__ = ["by_position"]


def by_position(tensor: Tensor, length: int) -> Tensor | None:
    """Return the (T, D) vectors of one sample, one per position; None when the tensor has no such axis.

    Args:
        tensor: A result for one sample: (1, T, D), (T, 1, D) if time comes first, or (1, D, T) in convolutions.
        length: T.
    """
    if not tensor.is_floating_point() or tensor.ndim != 3:
        return None
    if tensor.shape[:2] == (1, length):
        return tensor[0]
    if tensor.shape[:2] == (length, 1):
        return tensor[:, 0]
    return tensor[0].T if tensor.shape[0] == 1 and tensor.shape[2] == length else None
