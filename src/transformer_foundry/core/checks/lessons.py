"""What a loss teaches: which logit its gradient raises at each position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Lesson", "shifted", "taught"]

SHIFTS = (0, 1, 2, -1, -2)
# Share of the positions at which the logit of a label has to be the one that rises.
MOST = 0.9


@dataclass(frozen=True)
class Lesson:
    """Which labels a loss teaches.

    Attributes:
        shift: Position t learns label t + shift; None when it learns no label.
        is_negative: Whether the logit of the label falls where it should rise.
    """

    shift: int | None
    is_negative: bool = False


def taught(loss: Tensor, logits: Tensor, labels: Tensor) -> Lesson | None:
    """Return what ``loss`` teaches; None when the loss was not made of these logits.

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
    for sign in (1, -1):
        raised = (sign * gradient).argmin(dim=-1)
        active = gradient.abs().amax(dim=-1) > 1e-3 * gradient.abs().max()
        for shift in SHIFTS:
            (position, wanted), (counted, _) = shifted(raised, labels, shift), shifted(active, labels, shift)
            if bool(counted.any()) and float((position == wanted)[counted].float().mean()) >= MOST:
                return Lesson(shift, is_negative=sign < 0)
    return Lesson(None)


def shifted(values: Tensor, labels: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Return values (B, T, ...) and labels (B, T) such that each position faces the label ``shift`` further."""
    length = labels.shape[1] - abs(shift)
    start = max(0, -shift)
    return values[:, start : start + length], labels[:, start + shift : start + shift + length]
