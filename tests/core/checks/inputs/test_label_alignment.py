from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from transformer_foundry.core.checks.inputs.label_alignment import SHIFTS, LabelAlignment, infer_label_shift

LABELS = torch.tensor([[0, 3, 1, 4, 2, 6, 5, 8], [7, 2, 5, 0, 8, 1, 4, 3]])


def _logits() -> torch.Tensor:
    return torch.randn(2, 8, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)


def _loss(logits: torch.Tensor, shift: int) -> torch.Tensor:
    """Return the cross-entropy of position t with label t + shift, position by position."""
    pairs = [(t, t + shift) for t in range(8) if 0 <= t + shift < 8]
    return torch.stack([F.cross_entropy(logits[:, t], LABELS[:, label]) for t, label in pairs]).mean()


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_shift_of_a_cross_entropy_is_inferred(shift: int) -> None:
    logits = _logits()
    assert infer_label_shift(_loss(logits, shift), logits, LABELS) == LabelAlignment(shift)


def test_another_term_does_not_hide_the_shift() -> None:
    logits = _logits()
    loss = _loss(logits, 1) + 1e-4 * logits.logsumexp(-1).pow(2).mean()
    assert infer_label_shift(loss, logits, LABELS) == LabelAlignment(1)


def test_a_loss_with_the_wrong_sign_is_negative() -> None:
    logits = _logits()
    assert infer_label_shift(-_loss(logits, 0), logits, LABELS) == LabelAlignment(0, is_negative=True)


def test_a_loss_of_other_values_teaches_no_label() -> None:
    logits = _logits()
    assert infer_label_shift(logits.pow(2).mean(), logits, LABELS) == LabelAlignment(None)
    assert infer_label_shift(torch.ones(1, requires_grad=True).sum(), logits, LABELS) is None
