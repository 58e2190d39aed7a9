"""Isolated code draws random numbers without changing the global state."""

from __future__ import annotations

import random

import numpy as np
import torch

from transformer_foundry.core.system.random_state import preserve_random


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_the_global_random_state_is_unchanged() -> None:
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = draws()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with preserve_random(seed=7):
        first = draws()
    assert draws() == expected
    with preserve_random(seed=7):
        assert draws() == first
