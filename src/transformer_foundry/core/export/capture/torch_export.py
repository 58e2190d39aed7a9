"""Capture a module with ``torch.export``: a private copy, patches that let tracers through, and silence."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
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
    "DimNames",
    "Inputs",
    "capture",
    "exportable_copy",
    "exporting_patches",
    "private_copy",
    "silence_exporters",
    "without_caches",
]

Inputs = Callable[[int, int], Mapping[str, Tensor]]
"""``inputs(batch, length)`` -> the keyword tensors of one call."""

DimNames = Mapping[str, tuple[str | int, ...]]
"""Argument -> for each of its dimensions a name, or its size where that never changes."""

# What torch.export, the ONNX translation and TorchScript raise for a model that they do not support: most of torch's
# classes derive from RuntimeError, the rest comes from the model's code when it gets symbolic sizes or traced values.
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


def capture(module: nn.Module, example: Mapping[str, Tensor], names: DimNames) -> torch.export.ExportedProgram:
    """Capture ``module`` as a graph whose named dimensions may have any size.

    Args:
        module: Takes the tensors of ``example`` by position.
        example: The keyword tensors of one call.
        names: The inputs and their dimensions.

    Raises:
        RuntimeError: Or another of ``EXPORTER_ERRORS``, if the module cannot be captured.
    """
    # Dim.DYNAMIC refuses a model that fixes a size; Dim.AUTO would fix it silently.
    dynamic = tuple(
        {dim: torch.export.Dim.DYNAMIC for dim, name in enumerate(names[argument]) if isinstance(name, str)}
        for argument in example
    )
    # When it fails, torch prints the graph that it has so far.
    with torch.no_grad(), exporting_patches(), silence_exporters(), contextlib.redirect_stderr(io.StringIO()):
        return torch.export.export(module, tuple(example.values()), dynamic_shapes=(dynamic,), strict=False)


def private_copy(module: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode on the CPU: tracing leaves fake tensors in a module's caches."""
    # A computed tensor kept as an attribute (torch.nn.utils.weight_norm does so) has a history; deepcopy refuses it.
    attributes = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    memo = {id(value): value.detach().clone() for value in attributes if not value.is_leaf}
    # Attention chooses its kernel, and with it the layout of its result, by whether gradients are required: a capture
    # without and a translation with gradients would not fit together.
    return copy.deepcopy(module, memo).cpu().eval().requires_grad_(False)


def exportable_copy(module: nn.Module) -> nn.Module:
    """Return a private copy whose transformers mixtures of experts can be captured.

    Their default implementation sorts tokens by expert with a custom operator; another one uses plain products.
    """
    copied = private_copy(module)
    for part in copied.modules():
        choose = getattr(part, "set_experts_implementation", None)
        if callable(choose):
            with contextlib.suppress(*EXPORTER_ERRORS):
                choose("batched_mm")
    return copied


def without_caches(module: nn.Module) -> nn.Module:
    """Disable the caches of transformers models in ``module`` and return it: a whole input needs no cache."""
    for part in module.modules():
        config = getattr(part, "config", None)
        if config is not None and getattr(config, "use_cache", False) is True:
            config.use_cache = False
    return module


@contextlib.contextmanager
def exporting_patches() -> Iterator[None]:
    """Patch modules that exporters cannot follow, while the block lasts; results stay the same.

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
def silence_exporters() -> Iterator[None]:
    """Suppress the exporters' warnings while the block lasts: the manifest records what matters."""
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
