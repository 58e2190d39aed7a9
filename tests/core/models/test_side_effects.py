"""Somebody's code runs without a trace in the global random state."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import ModelOptions
from transformer_foundry.core.models.inference.call import express_mask
from transformer_foundry.core.models.model_errors import running_model_code
from transformer_foundry.core.models.side_effects import no_side_effects
from transformer_foundry.core.system.random_state import isolated_random


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_random_numbers_go_on_as_if_nothing_had_been_drawn() -> None:
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = draws()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with isolated_random(7):
        first = draws()
    assert draws() == expected
    with isolated_random(7):
        assert draws() == first


def test_flags_and_buffers_come_back_after_a_failure() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    module[1].eval()
    with contextlib.suppress(ValueError), no_side_effects(module):
        module[0].running_mean.add_(1)
        module[0].num_batches_tracked = torch.tensor(9)
        raise ValueError
    assert [part.training for part in module] == [True, False]
    assert torch.equal(module[0].running_mean, torch.zeros(2))
    assert int(module[0].num_batches_tracked) == 0


@pytest.mark.parametrize(
    "error", [ValueError("x" * 5000), SystemExit(1), RecursionError(), StopIteration(), OSError(2, "a\nb")]
)
def test_whatever_code_raises_becomes_three_lines(error) -> None:
    with pytest.raises(ModelError) as caught, running_model_code("trying", None):
        raise error
    assert str(caught.value).count("\n") == 2
    assert max(map(len, str(caught.value).splitlines())) < 500
    assert caught.value.__cause__ is error


def test_stopping_by_hand_stops() -> None:
    with pytest.raises(KeyboardInterrupt), running_model_code("trying", None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("meaning", ["real", "padding"])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_a_mask_says_the_same_in_every_form(meaning, dims) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    expressed = express_mask(mask, meaning, "float32", dims)
    assert expressed.shape == (2, *(1,) * (dims - 2), 3)
    assert torch.equal(expressed.reshape(2, 3), (mask if meaning == "real" else 1 - mask).float())


def test_options_take_a_kind_in_either_spelling() -> None:
    assert ModelOptions(kind="encoder_decoder").kind == "encoder-decoder"


@pytest.mark.parametrize(
    ("go_wrong", "cure"),
    [
        (lambda: nn.Linear(3, 4)(torch.ones(2, 5)), "d_model"),
        (lambda: nn.Embedding(3, 4)(torch.tensor([3])), "vocab_size"),
        (lambda: torch.ones(2, 6).view(4, 4), "number of heads"),
        (lambda: nn.MultiheadAttention(5, 2), "number of heads"),
        (lambda: torch.empty(10**15), "config.json smaller"),
    ],
)
def test_what_torch_says_is_followed_by_what_to_do(go_wrong, cure) -> None:
    with pytest.raises(ModelError) as caught, running_model_code("something", None):
        go_wrong()
    assert cure in caught.value.remedy
