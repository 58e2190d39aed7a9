"""Check that a feed-forward is nonlinear: without an activation its two layers are equivalent to one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.attention.weights import attention_records
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import TracedCall, first_tensor

__all__ = ["check_nonlinearity"]

EXACT = 1e-4


def check_nonlinearity(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that there is a nonlinear operation between the two layers of a feed-forward."""
    location = _linear_chain(subject) or _linear_module(subject)
    if location is not None:
        yield finding_at(
            "activation",
            "warning",
            "A feed-forward is linear: there is no activation between the layer that widens and the one that "
            "narrows, so the two are equivalent to a single small layer. Most of its weights are wasted.",
            location,
            "add an activation (GELU, SiLU or ReLU) between its two layers.",
        )


def _linear_chain(subject: ModelUnderTest) -> Location | None:
    """Return a linear layer whose input is the unchanged, wider result of another linear layer."""
    made: dict[int, TracedCall] = {}
    for call in subject.trace.modules:
        if call.name != "Linear" or not call.inputs:
            continue
        before = made.get(call.inputs[0].data_ptr())
        if before is not None and before.raw.shape == call.inputs[0].shape:
            middle = call.inputs[0].shape[-1]
            if middle > max(before.inputs[0].shape[-1], call.output.shape[-1]):
                return subject.locator.module(call.module, call.line)
        made[call.raw.data_ptr()] = call
    return None


def _linear_module(subject: ModelUnderTest) -> Location | None:
    """Return a module of several layers that is an affine function."""
    attending = {record.module for record in attention_records(subject.trace, subject.lengths)}
    done: set[type] = set()
    with generic_weights(subject.model):
        for call in subject.trace.modules:
            module = subject.locator.modules[call.module]
            if type(module) in done or not _may_be_feed_forward(call, module):
                continue
            if any(path.startswith(call.module) for path in attending):
                continue
            if _is_affine(module, call.inputs[0]):
                return subject.locator.module(call.module, call.line)
            if not isinstance(module, nn.Sequential):
                done.add(type(module))
    return None


def _may_be_feed_forward(call: TracedCall, module: nn.Module) -> bool:
    layers = [child for child in module.modules() if isinstance(child, nn.Linear)]
    widens = any(layer.out_features > layer.in_features for layer in layers)
    same_width = len(call.inputs) == 1 and _takes_one(module) and call.inputs[0].shape == call.output.shape
    return bool(call.module) and len(layers) > 1 and widens and same_width and call.output.ndim == 3


def _takes_one(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return sum(item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD for item in parameters) == 1


def _is_affine(module: nn.Module, like: Tensor) -> bool:
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.randn(like.shape, generator=generator).to(like) for _ in range(2))
    with torch.no_grad():
        values = [first_tensor(module(item)) for item in (first + second, first, second, torch.zeros_like(first))]
    if any(value is None for value in values):
        return False
    both, one, other, none = (value for value in values if value is not None)
    return bool((both - one - other + none).abs().max() <= EXACT * both.abs().max())
