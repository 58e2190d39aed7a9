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
from torch._export.verifier import SpecViolationError
from torch.jit.frontend import FrontendError

from transformer_foundry.core.export.capture.attention_patch import plain_attention

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
EXPORTER_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
    OSError,
    SpecViolationError,
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

    The fused path of evaluation mode and nested tensors of ``nn.Transformer*`` have no graph form. The test whether a
    mask is causal reads the mask's values; the mask itself is applied either way. A conversion inside forward
    (``self.head.to(x.dtype)``) exchanges parameters, which a capture forbids even where it changes nothing.
    """
    import torch.nn.modules.transformer as layers

    fast = torch.backends.mha.get_fastpath_enabled()
    detect, convert = layers._detect_is_causal_mask, nn.Module.to
    torch.backends.mha.set_fastpath_enabled(False)
    layers._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)  # noqa: ARG005
    nn.Module.to = lambda self, *args, **kwargs: (  # type: ignore[method-assign]
        self if _is_converted(self, *args, **kwargs) else convert(self, *args, **kwargs)
    )
    try:
        with plain_attention():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        layers._detect_is_causal_mask, nn.Module.to = detect, convert  # type: ignore[method-assign]


def _is_converted(module: nn.Module, *args: Any, **kwargs: Any) -> bool:
    """Return whether ``module.to(...)`` with these arguments would change nothing."""
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    tensors = [*module.parameters(), *module.buffers()]
    return memory_format is None and all(
        (device is None or tensor.device == device)
        and (dtype is None or tensor.dtype == dtype or not tensor.is_floating_point())
        for tensor in tensors
    )


@contextlib.contextmanager
def exporters_quiet() -> Iterator[None]:
    """Keep back the exporters' own warnings while the block lasts: what matters ends in the manifest."""
    loggers = [logging.getLogger(name) for name in _EXPORTER_LOGGERS]
    levels = [logger.level for logger in loggers]
    # torch 2.11 takes the question whether this log is on for its answer, and prints whole graphs.
    write_log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch._C._jit_onnx_log = write_log
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
