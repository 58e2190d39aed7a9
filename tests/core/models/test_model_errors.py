"""Exceptions of a model's code become errors of three lines that say what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.model_errors import running_model_code


@pytest.mark.parametrize(
    "error", [ValueError("x" * 5000), SystemExit(1), RecursionError(), StopIteration(), OSError(2, "a\nb")]
)
def test_every_exception_becomes_three_lines(error) -> None:
    with pytest.raises(ModelError) as caught, running_model_code("trying", None):
        raise error
    assert str(caught.value).count("\n") == 2
    assert max(map(len, str(caught.value).splitlines())) < 500
    assert caught.value.__cause__ is error


def test_a_keyboard_interrupt_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt), running_model_code("trying", None):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("fail", "fix"),
    [
        (lambda: nn.Linear(3, 4)(torch.ones(2, 5)), "d_model"),
        (lambda: nn.Embedding(3, 4)(torch.tensor([3])), "vocab_size"),
        (lambda: torch.ones(2, 6).view(4, 4), "number of heads"),
        (lambda: nn.MultiheadAttention(5, 2), "number of heads"),
        (lambda: torch.empty(10**15), "config.json smaller"),
    ],
)
def test_an_error_of_torch_is_followed_by_a_fix(fail, fix) -> None:
    with pytest.raises(ModelError) as caught, running_model_code("something", None):
        fail()
    assert fix in caught.value.remedy
