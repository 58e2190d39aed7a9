"""Seed, save and restore the global random number generators of Python, numpy and torch."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "RandomState",
    "capture_random",
    "preserve_random",
    "restore_random",
    "rewind_on_failure",
    "seed_random",
]


@dataclass(frozen=True)
class RandomState:
    """State of the global generators of Python, numpy and torch, and of the GPU that is used."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    torch_cpu: Tensor
    torch_cuda: Tensor | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain values; the inverse of ``from_json``."""
        version, words, gauss = self.python
        numpy_state = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self.numpy["state"].items()
        }
        return {
            "python": [version, list(words), gauss],
            "numpy": {**self.numpy, "state": numpy_state},
            "torch_cpu": _encode(self.torch_cpu),
            "torch_cuda": None if self.torch_cuda is None else _encode(self.torch_cuda),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RandomState:
        """Return the state that ``to_json`` wrote."""
        version, words, gauss = values["python"]
        numpy_state = {
            name: np.array(value, dtype=np.uint32) if isinstance(value, list) else value
            for name, value in values["numpy"]["state"].items()
        }
        cuda = values["torch_cuda"]
        return cls(
            (version, tuple(words), gauss),
            {**values["numpy"], "state": numpy_state},
            _decode(values["torch_cpu"]),
            None if cuda is None else _decode(cuda),
        )


def seed_random(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture_random(device: torch.device) -> RandomState:
    """Return the state of the global generators, and of ``device`` if it is a GPU."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict), type(numpy_state)
    return RandomState(random.getstate(), numpy_state, torch.get_rng_state(), cuda)


def restore_random(state: RandomState, device: torch.device) -> None:
    """Restore ``state``; a GPU whose state was not saved keeps its own."""
    random.setstate(state.python)
    np.random.set_state(state.numpy)
    torch.set_rng_state(state.torch_cpu)
    if device.type == "cuda" and state.torch_cuda is not None:
        torch.cuda.set_rng_state(state.torch_cuda, device)


@contextmanager
def preserve_random(device: torch.device | None = None, *, seed: int | None = None) -> Iterator[None]:
    """Restore the generators at the end of this context.

    Args:
        device: The GPU whose generator is restored too, if it is one; None is every GPU that is in use.
        seed: Seed of all generators within the context; None leaves them as they are.
    """
    devices: list[torch.device | int]
    if device is None:
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    else:
        devices = [device] if device.type == "cuda" else []
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        try:
            if seed is not None:
                seed_random(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def rewind_on_failure(device: torch.device) -> Iterator[None]:
    """Restore torch's generators if the body fails or is interrupted: half a forward pass has drawn half its numbers.

    Cheap enough for every step (2.5 microseconds); with the generators of Python and numpy it would take 75.
    """
    before = torch.get_rng_state()
    before_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    except BaseException:  # whatever it was, it is raised again
        torch.set_rng_state(before)
        if before_cuda is not None:
            torch.cuda.set_rng_state(before_cuda, device)
        raise


def _encode(tensor: Tensor) -> str:
    return base64.b64encode(tensor.cpu().numpy().tobytes()).decode("ascii")


def _decode(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
