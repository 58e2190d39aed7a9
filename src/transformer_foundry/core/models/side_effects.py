"""Run somebody's model without leaving a trace: training flags, buffers and global random state come back."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.system.random_state import isolated_random, preserve_random, seed_random
from transformer_foundry.core.system.torch_compat import module_tables

__all__ = ["no_side_effects", "own_attributes", "quiet_model", "restore_weights"]


@contextmanager
def no_side_effects(model: nn.Module) -> Iterator[None]:
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
                setattr(module, name, buffer)


@contextlib.contextmanager
def quiet_model(adapter: nn.Module, *, is_exact: bool = True) -> Iterator[None]:
    """Run ``adapter`` in train mode with seeded random numbers, and then put everything back.

    Args:
        adapter: The model.
        is_exact: Whether TF32 is off.
    """
    device = next(adapter.parameters()).device
    kept = [(module, _Kept(module)) for module in adapter.modules()]
    is_tf32_allowed = torch.backends.cuda.matmul.allow_tf32
    try:
        with preserve_random(device), torch.autocast(device.type, enabled=False):
            torch.backends.cuda.matmul.allow_tf32 = is_tf32_allowed and not is_exact
            seed_random(0)
            adapter.train()
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = is_tf32_allowed
        for module, state in kept:
            state.restore(module)


@contextmanager
def restore_weights(weights: Iterable[Tensor]) -> Iterator[None]:
    """Restore the values of ``weights`` bit for bit at the end of this context."""
    saved = [(weight, weight.detach().clone()) for weight in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in saved:
                weight.copy_(value)


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """Return what a module keeps in attributes of its own, parameters, buffers and layers excepted."""
    return {key: value for key, value in vars(module).items() if key not in _ATTRIBUTES_OF_TORCH}


_ATTRIBUTES_OF_TORCH = vars(nn.Module()).keys() - {"training"}


class _Kept:
    """What a module remembers: attributes (the contents of lists and dicts too) and buffers."""

    def __init__(self, module: nn.Module) -> None:
        self.attributes = own_attributes(module)
        self.contents = {
            key: value.copy() for key, value in self.attributes.items() if isinstance(value, list | dict | set)
        }
        tables = module_tables(module)
        self.buffers = dict(tables.buffers)
        self.values = {name: buffer.clone() for name, buffer in self.buffers.items() if buffer is not None}
        self.non_persistent = set(tables.non_persistent_buffers)

    def restore(self, module: nn.Module) -> None:
        """Put it back; what is as it was is left alone, for a constant made by ``expand`` cannot be written to."""
        for key in own_attributes(module).keys() - self.attributes.keys():
            del vars(module)[key]
        vars(module).update(self.attributes)
        for key, content in self.contents.items():
            _refill(self.attributes[key], content)
        tables = module_tables(module)
        _refill(tables.buffers, self.buffers)
        _refill(tables.non_persistent_buffers, self.non_persistent)
        for name, value in self.values.items():
            if not torch.equal(self.buffers[name], value):  # type: ignore[arg-type]
                self.buffers[name].data.copy_(value)  # type: ignore[union-attr]


def _refill(container: Any, content: Any) -> None:
    container.clear()
    container.extend(content) if isinstance(container, list) else container.update(content)
