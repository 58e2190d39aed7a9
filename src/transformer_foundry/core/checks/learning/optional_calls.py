"""Calls with what training may pass besides ids and masks: optional arguments of forward, special tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.checks.probing.trace import graph_tensors
from transformer_foundry.core.models.inference.call import call_arguments

__all__ = ["gradient_of_other_calls"]

LARGEST_MASK = 8


def gradient_of_other_calls(subject: ModelUnderTest, weight: Tensor, inputs: Inputs) -> Tensor | None:
    """Return the largest absolute gradient of ``weight`` over calls with optional arguments and special tokens.

    Args:
        subject: The model.
        weight: A parameter of any shape.
        inputs: An ordinary batch, to which the arguments and tokens are added.

    Returns:
        In the shape of ``weight``; None if no call has an output that depends on it.
    """
    largest: Tensor | None = None
    for arguments in _calls(subject, inputs):
        with torch.enable_grad():
            outputs = _outputs(subject, arguments) or []
            outputs = [item for item in outputs if item.requires_grad and bool(item.isfinite().all())]
            if not outputs:
                continue
            # Cubes, so that outputs of a norm, whose squares have a constant sum, have a gradient too.
            total = torch.stack([(item.float() ** 3).sum() + item.float().sin().sum() for item in outputs]).sum()
            gradient = torch.autograd.grad(total, [weight], allow_unused=True)[0]
        if gradient is not None:
            largest = gradient.abs() if largest is None else torch.maximum(largest, gradient.abs())
    return largest


def _calls(subject: ModelUnderTest, inputs: Inputs) -> Iterator[dict[str, Any]]:
    """Yield the arguments of calls: with special tokens in the middle, then with all optional arguments that fit."""
    usual = call_arguments(subject.contract, inputs.ids, inputs.mask, inputs.decoder_ids)
    special = sorted(set(range(subject.contract.vocab_size)) - set(subject.ordinary_ids.tolist()))[:LARGEST_MASK]
    for token in special:
        ids = inputs.ids.clone()
        ids[:, ids.shape[1] // 2] = token
        yield call_arguments(subject.contract, ids, inputs.mask, inputs.decoder_ids)
    if subject.contract.batch_argument is not None:
        return
    given: dict[str, Any] = {}
    for name in _optional(subject, usual):
        for value in _values(subject, inputs):
            if _outputs(subject, {**usual, **given, name: value}) is not None:
                given[name] = value
                break
    if given:
        yield {**usual, **given}


def _optional(subject: ModelUnderTest, usual: dict[str, Any]) -> list[str]:
    parameters = inspect.signature(subject.model.forward).parameters.values()
    return [item.name for item in parameters if item.default is None and item.name not in usual]


def _values(subject: ModelUnderTest, inputs: Inputs) -> list[Tensor]:
    """Return ids of two kinds, labels of positions, ids of another text, and labels of texts: (B, T) or (B,) int64."""
    kinds = torch.zeros_like(inputs.ids)
    kinds[:, inputs.ids.shape[1] // 2 :] = 1
    other = subject.tokens(inputs.ids.shape[0], inputs.ids.shape[1], seed=33)
    rows = torch.arange(len(inputs.ids)) % 2
    size = subject.contract.output_size
    return [inputs.target % size, other, kinds, rows, rows.float()]


def _outputs(subject: ModelUnderTest, arguments: dict[str, Any]) -> list[Tensor] | None:
    """Return the numbers that the model returns; None when it refuses the arguments."""
    try:
        output = subject.model(**arguments)
    except Exception:  # A probe with arguments of unknown form: the model's code may raise anything.
        return None
    values = vars(output) if hasattr(output, "__dict__") and not isinstance(output, dict) else output
    return [item for item in graph_tensors(values) if item.is_floating_point()]
