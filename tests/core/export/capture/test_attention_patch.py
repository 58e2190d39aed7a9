"""``nn.MultiheadAttention`` in the form that is exported, beside its own."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from transformer_foundry.core.export.capture.attention_patch import plain_attention

T, S, D, H = 5, 7, 12, 3


def calls() -> list[dict[str, Any]]:
    """Every kind of mask with every kind of padding, with weights and without."""
    generator = torch.Generator().manual_seed(0)
    forbidden = torch.rand(T, S, generator=generator) < 0.4
    forbidden[:, 0] = False
    padded = torch.zeros(2, S, dtype=torch.bool)
    padded[1, 4:] = True
    masks = [None, forbidden, torch.zeros(T, S).masked_fill(forbidden, -torch.inf), forbidden.expand(2 * H, T, S)]
    paddings = [None, padded, torch.zeros(2, S).masked_fill(padded, -torch.inf)]
    return [
        {"attn_mask": mask, "key_padding_mask": padding, "need_weights": needs, "average_attn_weights": averages}
        for mask, padding, (needs, averages) in itertools.product(
            masks, paddings, [(True, True), (True, False), (False, True)]
        )
        # torch warns of kinds that differ.
        if mask is None or padding is None or mask.dtype == padding.dtype
    ]


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"kdim": 9, "vdim": 10}, {"add_zero_attn": True}])
def test_patched_attention_returns_what_torch_returns(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(D, H, dropout=0.1, batch_first=True, **settings).eval()
    if attention.in_proj_bias is not None:
        nn.init.normal_(attention.in_proj_bias)
    key, value = torch.randn(2, S, settings.get("kdim", D)), torch.randn(2, S, settings.get("vdim", D))
    inputs = torch.randn(2, T, D), key, value
    for call in calls():
        expected = attention(*inputs, **call)
        with plain_attention():
            found = attention(*inputs, **call)
        assert (found[1] is None) == (expected[1] is None)
        for one, other in zip(found, expected, strict=True):
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_patch_ends_with_the_block() -> None:
    before = nn.MultiheadAttention.forward
    with plain_attention():
        assert nn.MultiheadAttention.forward is not before
    assert nn.MultiheadAttention.forward is before
