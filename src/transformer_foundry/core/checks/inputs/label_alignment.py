"""Infer which label each position learns from the gradient of a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SHIFTS", "LabelAlignment", "infer_label_shift", "shifted"]

SHIFTS = (0, 1, 2, -1, -2)
# Share of the positions at which the loss must raise the logit of the label.
MIN_SHARE = 0.9
# Positions whose gradient is below this share of the largest have no label.
SMALLEST_GRADIENT_SHARE = 1e-3


@dataclass(frozen=True)
class LabelAlignment:
    """Labels that a loss teaches.

    Attributes:
        shift: Position t learns label t + shift; None if it learns no label.
        is_negative: Whether the logit of the label falls where it should rise.
    """

    shift: int | None
    is_negative: bool = False


def infer_label_shift(loss: Tensor, logits: Tensor, labels: Tensor) -> LabelAlignment | None:
    """Return which labels ``loss`` teaches; None if the loss does not depend on these logits.

    Whatever else a loss contains, smoothing or penalties, its gradient is most negative for the logit that it raises.

    Args:
        loss: The loss, with its graph.
        logits: (B, T, V) float, with their graph.
        labels: (B, T) int64.
    """
    if not logits.requires_grad or not loss.requires_grad:
        return None
    with torch.enable_grad():
        total = loss.float().sum()
    gradient = torch.autograd.grad(total, logits, retain_graph=True, allow_unused=True)[0]
    if gradient is None or not bool(gradient.abs().max() > 0):
        return None
    active = gradient.abs().amax(dim=-1) > SMALLEST_GRADIENT_SHARE * gradient.abs().max()
    for sign in (1, -1):
        raised = (sign * gradient).argmin(dim=-1)
        for shift in SHIFTS:
            (learned, wanted), (counted, _) = shifted(raised, labels, shift), shifted(active, labels, shift)
            if bool(counted.any()) and float((learned == wanted)[counted].float().mean()) >= MIN_SHARE:
                return LabelAlignment(shift, is_negative=sign < 0)
    return LabelAlignment(None)


def shifted(values: Tensor, labels: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Return values (B, T - |shift|, ...) and labels (B, T - |shift|): position t faces label t + shift.

    Args:
        values: (B, T, ...).
        labels: (B, T).
        shift: Between -T and T.
    """
    length = labels.shape[1] - abs(shift)
    start = max(0, -shift)
    return values[:, start : start + length], labels[:, start + shift : start + shift + length]
