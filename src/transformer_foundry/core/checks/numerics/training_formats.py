"""The runs that are compared with float64: weights as in training, in the number formats of training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.reference.scales import (
    gpu_autocast,
    inactive_units,
    large_activations,
    shifted_embeddings,
)

__all__ = ["RUNS", "Run"]

# Pre-activations and scores of this size occur in trained networks.
LARGE = 120.0
OFFSET = 100.0
# A channel of the residual stream: Sun et al., "Massive Activations in Large Language Models" (2024), find larger ones.
LARGEST_CHANNEL = 600.0
Weights = Callable[[ModelUnderTest, Inputs], AbstractContextManager[None]]


@dataclass(frozen=True)
class Run:
    """One run: weights, number format, what is judged, how much larger errors may be, and whether texts are long.

    A run that is ``only_in_half`` says something about models that run in float16 as a whole: training under autocast
    squares and averages in float32.
    """

    where: str
    weights: Weights
    dtype: torch.dtype = torch.float32
    is_autocast: bool = False
    judges_errors: bool = True
    backward: bool = False
    tolerance: float = 1.0
    is_long: bool = False
    only_in_half: bool = False

    @property
    def formats(self) -> AbstractContextManager[None]:
        """The context in which the model runs."""
        return gpu_autocast(self.dtype) if self.is_autocast else contextlib.nullcontext()


def _generic(subject: ModelUnderTest, _inputs: Inputs) -> AbstractContextManager[None]:
    return generic_weights(subject.model)


def _large(subject: ModelUnderTest, inputs: Inputs) -> AbstractContextManager[None]:
    return large_activations(subject, inputs, LARGE)


def _inactive(subject: ModelUnderTest, _inputs: Inputs) -> AbstractContextManager[None]:
    return inactive_units(subject)


def _shifted(subject: ModelUnderTest, _inputs: Inputs) -> AbstractContextManager[None]:
    return shifted_embeddings(subject, OFFSET, OFFSET)


def _with_large_channel(subject: ModelUnderTest, _inputs: Inputs) -> AbstractContextManager[None]:
    return shifted_embeddings(subject, OFFSET, LARGEST_CHANNEL)


RUNS = (
    Run("in float32", _generic),
    Run("in float32, with activations as large as in trained networks", _large, judges_errors=False, backward=True),
    Run("in float32, with layers whose units are all off", _inactive, judges_errors=False, backward=True),
    Run("in float32, with an offset in the activations as in trained networks", _shifted, tolerance=3.0, is_long=True),
    Run("under autocast in float16", _generic, torch.float16, True),
    Run("under autocast in float16, with channels as in trained networks", _with_large_channel, torch.float16, True),
    Run("under autocast in bfloat16", _generic, torch.bfloat16, True, is_long=True),
    Run("in float16 (model.half())", _generic, torch.float16),
    Run("in float16 (model.half()), with channels as in trained networks", _with_large_channel, torch.float16,
        judges_errors=False, only_in_half=True),
    Run("in bfloat16 (model.bfloat16())", _generic, torch.bfloat16, is_long=True),
)  # fmt: skip
