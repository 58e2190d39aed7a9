"""What tracers need: a copy to work on, patches for what they stumble over, and silence."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit.frontend import FrontendError

from transformer_foundry.core.export.capture.attention_patch import plain_attention
from transformer_foundry.core.system.torch_compat import (
    quiet_onnx_log,
    spec_violation_errors,
    traceable_transformer_layers,
)

__all__ = [
    "EXPORTER_ERRORS",
    "exportable_copy",
    "exporters_quiet",
    "exporting_patches",
    "private_copy",
    "without_caches",
]

# What torch.export, the ONNX translation and TorchScript raise for a model they cannot take: most of torch's own
# classes derive from RuntimeError, the rest escapes from the model's code run with symbolic sizes or traced values.
EXPORTER_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
    OSError,
    *spec_violation_errors(),
    FrontendError,
)


_EXPORTER_LOGGERS = ("torch.onnx", "torch.export", "torch.fx.experimental", "onnxscript", "onnx_ir")


def private_copy(module: nn.Module) -> nn.Module:
    """Return a copy to work on, in evaluation mode on the CPU: tracing leaves fake tensors in a module's caches."""
    # A result kept as an attribute (torch.nn.utils.weight_norm does so) has a history, and deepcopy refuses it.
    attributes = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    memo = {id(value): value.detach().clone() for value in attributes if not value.is_leaf}
    # Attention chooses its kernel, and with it the layout of its result, by whether gradients are wanted: a capture
    # without them and a translation with them would not fit together.
    return copy.deepcopy(module, memo).cpu().eval().requires_grad_(False)


def exportable_copy(module: nn.Module) -> nn.Module:
    """Return a private copy whose mixtures of experts, where they are transformers' own, can be captured.

    Their usual implementation sorts tokens by expert, which is an operation of its own; another is plain products.
    """
    copied = private_copy(module)
    for part in copied.modules():
        choose = getattr(part, "set_experts_implementation", None)
        if callable(choose):
            with contextlib.suppress(*EXPORTER_ERRORS):
                choose("batched_mm")
    return copied


def without_caches(module: nn.Module) -> nn.Module:
    """Switch off the caches of transformers' models in ``module``, and return it: logits of a whole input need none."""
    for part in module.modules():
        config = getattr(part, "config", None)
        if config is not None and getattr(config, "use_cache", False) is True:
            config.use_cache = False
    return module


@contextlib.contextmanager
def exporting_patches() -> Iterator[None]:
    """Let exporters see through modules that they stumble over while the block lasts; results stay the same.

    A conversion inside forward (``self.head.to(x.dtype)``) exchanges parameters, which a capture forbids even where it
    changes nothing.
    """
    convert = nn.Module.to
    nn.Module.to = lambda self, *args, **kwargs: (  # type: ignore[method-assign]
        self if _is_converted(self, *args, **kwargs) else convert(self, *args, **kwargs)
    )
    try:
        with plain_attention(), traceable_transformer_layers():
            yield
    finally:
        nn.Module.to = convert  # type: ignore[method-assign]


def _is_converted(module: nn.Module, *args: Any, **kwargs: Any) -> bool:
    """Return whether ``module.to(...)`` with these arguments would change nothing."""
    device = dtype = None
    for given in (*args, *(kwargs.get(name) for name in ("device", "dtype", "tensor"))):
        if isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, str | int | torch.device) and not isinstance(given, bool):
            device = torch.device(given)
    tensors = [*module.parameters(), *module.buffers()]
    return kwargs.get("memory_format") is None and all(
        (device is None or tensor.device == device)
        and (dtype is None or tensor.dtype == dtype or not tensor.is_floating_point())
        for tensor in tensors
    )


@contextlib.contextmanager
def exporters_quiet() -> Iterator[None]:
    """Keep back the exporters' own warnings while the block lasts: what matters ends in the manifest."""
    loggers = [logging.getLogger(name) for name in _EXPORTER_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with quiet_onnx_log(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
