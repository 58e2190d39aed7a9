"""Probing a model has no side effects on its flags and buffers."""

from __future__ import annotations

import contextlib
import random

import torch
from torch import nn

from transformer_foundry.core.models.side_effects import no_side_effects


def test_flags_and_buffers_are_restored_after_a_failure() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    module[1].eval()
    with contextlib.suppress(ValueError), no_side_effects(module):
        module[0].running_mean.add_(1)
        module[0].num_batches_tracked = torch.tensor(9)
        raise ValueError
    assert [part.training for part in module] == [True, False]
    assert torch.equal(module[0].running_mean, torch.zeros(2))
    assert int(module[0].num_batches_tracked) == 0


class Lazy(nn.Module):
    """Builds a layer in its first call, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.calls, self.seen = 0, []
        self.register_buffer("scale", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            self.scale = torch.ones(2)
        self.calls += 1
        self.seen.append(self.calls)
        return self.first(x) * self.scale


def test_a_probe_keeps_what_the_first_call_builds() -> None:
    model = Lazy()
    with no_side_effects(model):
        assert not model.training
        assert not model(torch.ones(1, 2)).requires_grad
    assert (model.training, model.calls) == (True, 1)
    assert model.scale is not None


def test_a_training_pass_restores_attributes_and_draws_the_same_numbers() -> None:
    model, drawn = Lazy().eval(), []
    for _ in range(2):
        with no_side_effects(model, train=True):
            assert model.training
            drawn.append((model(torch.ones(1, 2)).requires_grad, random.random(), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
    assert (model.training, model.calls, model.seen, model.scale) == (False, 0, [], None)


def test_a_buffer_that_the_model_deletes_is_a_buffer_again() -> None:
    module = nn.BatchNorm1d(2)
    with no_side_effects(module):
        del module.running_mean
    assert list(dict(module.named_buffers())) == ["running_var", "num_batches_tracked", "running_mean"]
