"""Recognize tensors that are the same memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["memory_key"]


def memory_key(tensor: Tensor) -> Hashable:
    """Return what tied tensors have in common: place, type, shape and strides of their elements.

    An empty tensor is tied to nothing: its key is its own while it exists.
    """
    if not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride()
