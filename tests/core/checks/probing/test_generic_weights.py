"""Generic weights are the same in every context, whatever was made generic between, and the model's come back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.model_under_test import generic_weights


class Model(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, width, padding_idx=3)
        self.linear = nn.Linear(width, 4)
        self.norm = nn.LayerNorm(width)
        self.norm.bias.requires_grad_(requires_grad=False)


def values(model: nn.Module, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    with generic_weights(model, seed=seed, scale=scale):
        return [parameter.detach().clone() for parameter in model.parameters()]


def are_equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def test_the_values_are_the_same_in_every_context() -> None:
    model, other = Model(), Model(16)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    first = values(model)
    assert are_equal(values(model), first)
    assert not are_equal(values(model, seed=1), first)
    assert not are_equal(values(model, scale=0.5), first)
    values(other)
    assert are_equal(values(model), first)
    assert are_equal([parameter.detach() for parameter in model.parameters()], before)


def test_a_parameter_that_has_changed_its_shape_gets_noise_of_its_own() -> None:
    model = Model()
    values(model)
    model.linear = nn.Linear(8, 6)
    fresh = Model()
    fresh.linear = nn.Linear(8, 6)
    fresh.load_state_dict(model.state_dict())
    assert are_equal(values(model), values(fresh))


def test_rows_of_padding_stay_zero_and_frozen_parameters_as_they_are() -> None:
    model = Model()
    embedding, *_, norm_bias = values(model)
    assert not embedding[3].any()
    assert embedding[:3].all()
    assert torch.equal(norm_bias, model.norm.bias)
