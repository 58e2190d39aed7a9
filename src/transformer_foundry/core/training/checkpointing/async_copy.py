"""Copies of tensors in memory that is used again, made while training goes on where nothing changes what is copied.

Fresh memory costs a page fault for every 4 KiB that is written the first time, more than the copy itself. The weights
are copied at once: a model may change them in its forward pass (``nn.Embedding(max_norm=...)`` does). The state of the
optimizer, two thirds of a checkpoint with AdamW, changes only in the optimizer's step, so that a thread copies it while
the passes of the next step are computed; whoever is about to change it waits.
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
"""Where a thread of its own may read while others compute."""


class PendingTensors(Mapping[str, Tensor]):
    """Tensors by name of which some are still being copied: whoever asks for one waits for all.

    Args:
        tensors: The copies.
        wait: Returns when all of them are complete.
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
    """Copies tensors to the CPU into buffers of its own; a buffer is used again once nobody holds its last copy.

    A copy belongs to whoever holds it (or any view of it) for as long as they do: no later copy overwrites it.

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
        """Return memory on the CPU that holds a copy of ``tensor`` once ``begin`` was called and waited for."""
        tensor = tensor.detach()
        if tensor.nbytes < SMALLEST_BUFFER_BYTES or tensor.device.type not in _DEVICES:
            return self.copy(tensor)
        target = self._room_for(tensor)
        self._later.append((target, tensor))
        return target

    def begin(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Begin the copies that were put off.

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
        """Return when every copy that was begun is made: only then may its original change. Others are given up."""
        self._later.clear()
        if self._copying is not None:
            self._copying.wait()
            self._copying = None

    def _room_for(self, tensor: Tensor) -> Tensor:
        return torch.from_numpy(self._idle_buffer(tensor.nbytes)).view(tensor.dtype).view(tensor.shape)

    def _idle_buffer(self, size: int) -> np.ndarray:
        same_size = self._buffers[size]
        for index in range(len(same_size)):
            # One reference of the list and one of the call: every storage of torch on the buffer holds another.
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
            # A stream of its own, or the copy would stand in line with the passes it is to run beside.
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = threading.Thread(target=self._copy_all, args=(pairs,), name="snapshot")
        self._thread.start()

    def wait(self) -> None:
        """Return when all is copied; an error of the thread is raised here, each time."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _copy_all(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        try:
            with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
                for target, source in pairs:
                    _copy_into(target, source)
        except BaseException as err:  # raised by who waits: an error that ends a thread is only printed
            self._error = err


def _copy_into(target: Tensor, source: Tensor) -> None:
    """Copy without torch's pool of threads where that can be: a second pool would take the cores of the passes."""
    is_plain = source.device.type == "cpu" and source.is_contiguous() and not (source.is_conj() or source.is_neg())
    if is_plain:
        np.copyto(_bytes_of(target), _bytes_of(source))
    else:
        target.copy_(source)


def _bytes_of(tensor: Tensor) -> np.ndarray:
    octets: np.ndarray = tensor.view(-1).view(torch.uint8).numpy()
    return octets
