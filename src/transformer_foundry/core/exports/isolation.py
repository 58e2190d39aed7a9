"""Run somebody's model without leaving a trace: training flags, buffers and global random state come back."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["isolated_random", "undisturbed"]


@contextmanager
def isolated_random(seed: int | None = None) -> Iterator[None]:
    """Keep the global random state of torch, numpy and ``random`` as it was; seed it inside when ``seed`` is given."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Probe ``model`` in eval mode and without gradients, then restore its flags, buffers and the random state."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    with isolated_random(), torch.no_grad(), warnings.catch_warnings():
        # A probe feeds what training never does; what torch remarks about that is of no use to anybody.
        warnings.simplefilter("ignore")
        model.eval()
        try:
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            for module, name, buffer, content in buffers:
                if not torch.equal(buffer, content):
                    buffer.copy_(content)
                module._buffers[name] = buffer
