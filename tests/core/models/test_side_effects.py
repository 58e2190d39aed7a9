"""Probing a model has no side effects on its flags and buffers."""

from __future__ import annotations

import contextlib

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
