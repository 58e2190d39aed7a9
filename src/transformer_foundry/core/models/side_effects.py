"""Run a model without side effects on the model, the random state and the numerics of torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.system.random_state import preserve_random
from transformer_foundry.core.system.torch_compat import module_tables

__all__ = ["no_side_effects", "own_attributes", "preserve_modules", "restore_weights"]


@contextmanager
def no_side_effects(model: nn.Module, *, train: bool = False, allow_tf32: bool = False) -> Iterator[None]:
    """Run ``model`` in this context, then restore its training flags, its buffers and the random state.

    By default the model is in eval mode, without gradients, and warnings are ignored: a probe passes inputs that
    training never does. Attributes that the model's code sets stay: a model that builds layers in its first call
    records there that it has built them.

    Args:
        model: The model.
        train: Run in train mode, in float32 and with seeded random numbers, so that two runs are comparable; restore
            attributes too.
        allow_tf32: With ``train``, keep TF32 if it is on.
    """
    settings = _exact_training(model, allow_tf32) if train else _silent_probing()
    with preserve_random(seed=0 if train else None), settings, preserve_modules(model, with_attributes=train):
        model.train(train)
        yield


@contextmanager
def preserve_modules(model: nn.Module, *, with_attributes: bool = True) -> Iterator[None]:
    """Restore the training flags and the buffers of ``model`` at the end of this context, and its attributes.

    Args:
        model: The model.
        with_attributes: Whether attributes that the model's code sets are restored too.
    """
    snapshots = [_Snapshot(module, with_attributes=with_attributes) for module in model.modules()]
    try:
        yield
    finally:
        for snapshot in snapshots:
            snapshot.restore()


@contextmanager
def _silent_probing() -> Iterator[None]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _exact_training(model: nn.Module, allow_tf32: bool) -> Iterator[None]:
    is_tf32_allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = is_tf32_allowed and allow_tf32
    try:
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = is_tf32_allowed


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
    """Return the attributes that the code of ``module`` set, without parameters, buffers and submodules."""
    return {key: value for key, value in vars(module).items() if key not in _ATTRIBUTES_OF_TORCH}


_ATTRIBUTES_OF_TORCH = vars(nn.Module()).keys() - {"training"}


class _Snapshot:
    """The flag, the buffers and optionally the attributes (with the contents of lists, dicts and sets) of a module."""

    def __init__(self, module: nn.Module, *, with_attributes: bool) -> None:
        self.module, self.with_attributes = module, with_attributes
        self.attributes: dict[str, Any] = own_attributes(module) if with_attributes else {"training": module.training}
        self.contents = {
            key: value.copy() for key, value in self.attributes.items() if isinstance(value, list | dict | set)
        }
        tables = module_tables(module)
        self.buffers = {
            name: buffer for name, buffer in tables.buffers.items() if with_attributes or buffer is not None
        }
        self.values = {name: buffer.clone() for name, buffer in self.buffers.items() if buffer is not None}
        self.non_persistent = set(tables.non_persistent_buffers)

    def restore(self) -> None:
        """Restore the module; unchanged buffers are not written: a constant made by ``expand`` cannot be."""
        tables = module_tables(self.module)
        if self.with_attributes:
            for key in own_attributes(self.module).keys() - self.attributes.keys():
                del vars(self.module)[key]
            tables.buffers.clear()
            tables.non_persistent_buffers.clear()
        vars(self.module).update(self.attributes)
        for key, content in self.contents.items():
            container = self.attributes[key]
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        tables.buffers.update(self.buffers)
        tables.non_persistent_buffers.update(self.non_persistent)
        for name, value in self.values.items():
            buffer = self.buffers[name]
            assert buffer is not None
            if not torch.equal(buffer, value):
                buffer.data.copy_(value)
