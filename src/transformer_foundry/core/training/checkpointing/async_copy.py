"""Copies of tensors into reused memory, made while training continues where their originals do not change.

Fresh memory costs a page fault for every 4 KiB that is written the first time, more than the copy itself. The weights
are copied at once: a model may change them in its forward pass (``nn.Embedding(max_norm=...)`` does). The state of the
optimizer, two thirds of a checkpoint with AdamW, changes only in the optimizer's step, so that a thread copies it while
the passes of the next step are computed; the optimizer's step waits for it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["PendingTensors", "StagingBuffers"]

SMALLEST_BUFFER_BYTES = 1 << 16
"""Smaller tensors are copied at once into fresh memory: there are many of them, and they cost nothing."""

_DEVICES = ("cpu", "cuda")
"""Devices whose tensors a second thread may read while others compute."""


class PendingTensors(Mapping[str, Tensor]):
    """Tensors by name, some of which are still being copied: access to one waits for all.

    Args:
        tensors: The copies.
        wait: Returns when all copies are complete.
    """

    def __init__(self, tensors: Mapping[str, Tensor], wait: Callable[[], None]) -> None:
        self._tensors, self._wait = tensors, wait

    def __getitem__(self, name: str) -> Tensor:
        self._wait()
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class StagingBuffers:
    """Copies tensors to the CPU into its buffers; a buffer is reused once nothing references its last copy.

    As long as a copy or a view of it is referenced, no later copy overwrites it.

    Example:
        >>> buffers = StagingBuffers()
        >>> buffers.copy(torch.arange(3)).tolist()
        [0, 1, 2]
    """

    def __init__(self) -> None:
        self._buffers: dict[int, list[np.ndarray]] = defaultdict(list)
        self._later: list[tuple[Tensor, Tensor]] = []
        self._copying: _Copying | None = None

    def copy(self, tensor: Tensor) -> Tensor:
        """Return a contiguous copy of ``tensor`` on the CPU."""
        tensor = tensor.detach()
        if tensor.nbytes < SMALLEST_BUFFER_BYTES:
            return tensor.to("cpu", copy=True)
        return self._room_for(tensor).copy_(tensor)

    def copy_later(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the CPU that will hold a copy of ``tensor`` after ``begin`` and ``wait``."""
        tensor = tensor.detach()
        if tensor.nbytes < SMALLEST_BUFFER_BYTES or tensor.device.type not in _DEVICES:
            return self.copy(tensor)
        target = self._room_for(tensor)
        self._later.append((target, tensor))
        return target

    def begin(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Start the copies of ``copy_later``.

        Args:
            tensors: Copies by name, such as ``copy_later`` returned.

        Returns:
            The same; each access waits until all copies are made.
        """
        pairs, self._later = self._later, []
        self.wait()
        if not pairs:
            return tensors
        self._copying = _Copying(pairs)
        return PendingTensors(tensors, self._copying.wait)

    def wait(self) -> None:
        """Wait for every started copy, after which its original may change; drop the copies that were not started."""
        self._later.clear()
        if self._copying is not None:
            self._copying.wait()
            self._copying = None

    def _room_for(self, tensor: Tensor) -> Tensor:
        return torch.from_numpy(self._idle_buffer(tensor.nbytes)).view(tensor.dtype).view(tensor.shape)

    def _idle_buffer(self, size: int) -> np.ndarray:
        same_size = self._buffers[size]
        for index in range(len(same_size)):
            # One reference of the list and one of the call; every torch storage on the buffer holds another.
            if sys.getrefcount(same_size[index]) <= 2:
                same_size.append(same_size.pop(index))
                return same_size[-1]
        same_size.append(np.empty(size, dtype=np.uint8))
        return same_size[-1]


class _Copying:
    """A thread that copies each second tensor of ``pairs`` into the first, and ends."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._error: BaseException | None = None
        device = pairs[0][1].device
        self._stream = None
        if device.type == "cuda":
            # A separate stream, or the copy would wait for the passes that it is to run beside.
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = threading.Thread(target=self._copy_all, args=(pairs,), name="snapshot")
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything is copied; raise an error of the thread, each time."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _copy_all(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        try:
            with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
                for target, source in pairs:
                    _copy_into(target, source)
        except BaseException as err:  # raised by wait: an error that ends a thread is only printed
            self._error = err


def _copy_into(target: Tensor, source: Tensor) -> None:
    """Copy without torch's thread pool if possible: a second pool would take the cores of the passes."""
    is_plain = source.device.type == "cpu" and source.is_contiguous() and not (source.is_conj() or source.is_neg())
    if is_plain:
        np.copyto(_bytes_of(target), _bytes_of(source))
    else:
        target.copy_(source)


def _bytes_of(tensor: Tensor) -> np.ndarray:
    octets: np.ndarray = tensor.view(-1).view(torch.uint8).numpy()
    return octets
