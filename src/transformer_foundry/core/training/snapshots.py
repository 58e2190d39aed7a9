"""Copies of tensors in memory that is used again, so that taking a snapshot costs a copy and no allocation.

Fresh memory costs a page fault for every 4 KiB that is written the first time, more than the copy itself.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

__all__ = ["CopyBuffers"]

SMALLEST_BUFFER_BYTES = 1 << 16
"""Smaller tensors are copied into fresh memory: there are many of them, and they cost nothing."""


class CopyBuffers:
    """Copies tensors to the CPU into buffers of its own; a buffer is used again once nobody holds its last copy.

    A copy belongs to whoever holds it (or any view of it) for as long as they do: no later copy overwrites it.

    Example:
        >>> buffers = CopyBuffers()
        >>> buffers.copy(torch.arange(3)).tolist()
        [0, 1, 2]
    """

    def __init__(self) -> None:
        self._buffers: dict[int, list[np.ndarray]] = defaultdict(list)

    def copy(self, tensor: Tensor) -> Tensor:
        """Return a contiguous copy of ``tensor`` on the CPU."""
        tensor = tensor.detach()
        size = tensor.numel() * tensor.element_size()
        if size < SMALLEST_BUFFER_BYTES:
            return tensor.to("cpu", copy=True)
        copied = torch.from_numpy(self._idle_buffer(size)).view(tensor.dtype).view(tensor.shape)
        return copied.copy_(tensor)

    def _idle_buffer(self, size: int) -> np.ndarray:
        same_size = self._buffers[size]
        for index in range(len(same_size)):
            # One reference of the list and one of the call: every storage of torch on the buffer holds another.
            if sys.getrefcount(same_size[index]) <= 2:
                same_size.append(same_size.pop(index))
                return same_size[-1]
        same_size.append(np.empty(size, dtype=np.uint8))
        return same_size[-1]
