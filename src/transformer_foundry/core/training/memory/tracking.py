"""Bytes that tensors hold, followed from operation to operation; works on fake tensors and on real ones."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes"]


class LiveBytes(TorchDispatchMode):
    """While on, counts the bytes of the storages that operations make, until they are freed.

    Args:
        device: Only tensors on this kind of device count.
        known: Tensors that are not counted: they were there before.

    Attributes:
        now: Bytes that are held.
        peak: The most so far.
        timeline: ``now`` after each operation.
    """

    def __init__(self, device: torch.device, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.device_type = device.type
        self.now = self.peak = 0
        self.timeline: list[int] = []
        self._seen: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run ``func`` and count what it made."""
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.device.type == self.device_type:
                self._add(value)
        self.peak = max(self.peak, self.now)
        self.timeline.append(self.now)
        return found

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        self._seen[storage] = None
        size = storage.nbytes()
        self.now += size
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size
