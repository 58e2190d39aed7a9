"""Check that training mode differs from evaluation by dropout alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.localize import first_changed_operation
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, generic_weights
from transformer_foundry.core.models.side_effects import own_attributes

__all__ = ["check_training_mode"]

TOLERANCE = 1e-4


def check_training_mode(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that without dropout the logits in training mode are those in evaluation mode."""
    inputs = subject.inputs(batch=2)
    with generic_weights(subject.model), _without_dropout(subject.model):
        evaluated = subject.logits(inputs)
        trained = [subject.logits(inputs, seed=seed, training=True) for seed in (1, 2)]
        is_random = _differ(trained[0], trained[1])
        if is_random or not _differ(evaluated, trained[0]) or _normalizes_batches(subject.model):
            return
        call = first_changed_operation(subject.traced(inputs), subject.traced(inputs, training=True), _differ)
    location = subject.locator.at(call.line, call.module) if call is not None else subject.locator.forward()
    difference = float((evaluated - trained[0]).abs().max()) if evaluated.shape == trained[0].shape else float("nan")
    yield finding_at(
        "mode",
        "warning",
        f"Training and evaluation compute different things: with dropout off the logits differ by {difference:.2g} "
        f"(their spread is {float(evaluated.std()):.2g}), and not at random. What is learned is not what is used.",
        location,
        "compute the same in both modes; let self.training switch dropout only.",
    )


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Set every probability of dropout to 0, in modules and in attributes named after it."""
    saved: list[tuple[nn.Module, str, float]] = []
    for module in model.modules():
        for name, value in own_attributes(module).items():
            is_share = isinstance(value, float) and 0 < value < 1
            if is_share and ("drop" in name.lower() or (name == "p" and "drop" in type(module).__name__.lower())):
                saved.append((module, name, value))
    for module, name, _value in saved:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in saved:
            setattr(module, name, value)


def _normalizes_batches(model: nn.Module) -> bool:
    """Return whether a batch norm makes the modes differ, which another check judges."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _differ(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return True
    scale = float(left.nan_to_num(0, 0, 0).abs().max()) if left.numel() else 0.0
    return not torch.allclose(left, right, rtol=0, atol=TOLERANCE * max(scale, 1e-3), equal_nan=True)
