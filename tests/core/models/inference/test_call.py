"""A mask has the same meaning in every form."""

from __future__ import annotations

import pytest
import torch

from transformer_foundry.core.models.inference.call import express_mask


@pytest.mark.parametrize("meaning", ["real", "padding"])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_a_mask_says_the_same_in_every_form(meaning, dims) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    expressed = express_mask(mask, meaning, "float32", dims)
    assert expressed.shape == (2, *(1,) * (dims - 2), 3)
    assert torch.equal(expressed.reshape(2, 3), (mask if meaning == "real" else 1 - mask).float())
