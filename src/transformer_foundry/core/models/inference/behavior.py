"""Infer by calling a model whether it is causal and how its own loss shifts the labels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.inference.output_format import find_loss
from transformer_foundry.core.models.inference.probe import Probe, same, works_at

__all__ = ["infer_loss_shift", "is_causal"]

CAUSAL_PROBE_LENGTH = 48
CLOSED_GATE = 1e-2
OTHER_LABELS = 4
LOSS_TOLERANCE = 1e-6


def is_causal(probe: Probe) -> bool:
    """Return whether the model, or the decoder of an encoder-decoder, is causal.

    It is if the last token changes no earlier position, as in causal and prefix language models, or if each of a few
    tokens changes fewer positions before it than after it: a causal model whose mask is off by one. If no token changes
    any other position (gates initialized to zero), near-zero weights are replaced by larger ones first.
    """
    length = min(CAUSAL_PROBE_LENGTH, probe.contract.max_length or CAUSAL_PROBE_LENGTH)
    length = length if works_at(probe, length) else probe.length
    middle = 2 * length // 3
    if not any(_reach(probe, length, middle)):
        probe = replace(probe, weights=_larger_weights(probe.model))
    if not any(_changed_by(probe, length, length - 1)[:-1]):
        return True
    # Around the middle, to test a model with block-wise attention at both ends of a block.
    positions = (middle - 3, middle, middle + 3) if length == CAUSAL_PROBE_LENGTH else (middle,)
    return all(before < after for before, after in (_reach(probe, length, position) for position in positions))


def _reach(probe: Probe, length: int, position: int) -> tuple[int, int]:
    """Return how many positions before and after ``position`` change with the token there."""
    changed = _changed_by(probe, length, position)
    return sum(changed[:position]), sum(changed[position + 1 :])


def _changed_by(probe: Probe, length: int, position: int) -> list[bool]:
    """Return for each position whether its logits change with the token at ``position``."""
    is_decoder = probe.contract.decoder_ids_argument is not None
    source = probe.ids(length=length)
    target = probe.ids(1, decoder=True, length=length) if is_decoder else None
    before = probe.logits(source, target)
    if target is None:
        after = probe.logits(probe.with_other_token(source, position))
    else:
        after = probe.logits(source, probe.with_other_token(target, position, decoder=True))
    return [not same(before[:, t], after[:, t]) for t in range(before.shape[1])]


def _larger_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return replacements for the near-zero weights: closed gates would hide the influence of a token."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.empty(weight.shape).normal_(std=0.1, generator=generator).to(weight)
        for name, weight in model.named_parameters()
        if weight.numel() and float(weight.detach().abs().max()) < CLOSED_GATE
    }


def infer_loss_shift(probe: Probe) -> tuple[bool, str | None]:
    """Return whether the model computes a loss from labels, and its ``Contract.loss_shift``.

    A loss that compares position t with label t + 1 ignores the first label and depends on the last.
    """
    if probe.contract.labels_argument is None:
        return False, None
    ids = probe.ids()
    per_token = probe.logits(ids).dim() == 3
    classes = min(probe.contract.output_size, probe.contract.vocab_size)
    labels = ids % classes if per_token else torch.arange(probe.batch, device=ids.device) % classes
    try:
        loss = _loss(probe, ids, labels)
        if loss is None or not per_token:
            return loss is not None, None
        uses_first, uses_last = (_depends_on_labels(probe, ids, labels, position) for position in (0, -1))
    except ModelError:
        return False, None
    if uses_last:
        return True, "unshifted" if uses_first else "shifted"
    return True, None


def _loss(probe: Probe, ids: Tensor, labels: Tensor) -> Tensor | None:
    loss = find_loss(probe.run(ids, labels=labels))
    return None if loss is None else loss.detach().reshape(1).float()


def _depends_on_labels(probe: Probe, ids: Tensor, labels: Tensor, position: int) -> bool:
    """Return whether the loss changes with the labels at ``position``; a single change could do little by chance."""
    classes = min(probe.contract.output_size, probe.contract.vocab_size)
    losses = []
    for step in range(OTHER_LABELS):
        changed = labels.clone()
        changed[:, position] = (labels[:, position] + step) % classes
        loss = _loss(probe, ids, changed)
        losses.append(float("nan") if loss is None else float(loss))
    return max(losses) - min(losses) > LOSS_TOLERANCE * max(abs(losses[0]), LOSS_TOLERANCE)
