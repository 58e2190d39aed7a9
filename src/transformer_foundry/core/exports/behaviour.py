"""What a model does, found by calling it: whether it sees the future, how long it may get, how its loss shifts."""

from __future__ import annotations

import torch
from torch import Tensor

from transformer_foundry.core.errors import ExportError
from transformer_foundry.core.exports.outputs import find_loss
from transformer_foundry.core.exports.probe import Probe, same
from transformer_foundry.core.exports.tables import TableWatch

__all__ = ["is_causal", "largest_vocabulary", "loss_behaviour", "watch_sizes", "works_at"]

CAUSAL_PROBE_LENGTH = 24
LONGEST_TRIAL = 1024
LARGEST_VOCABULARY = 2**20


def is_causal(probe: Probe) -> bool:
    """Whether the last token leaves most earlier positions alone, as it does in a causal or prefix language model.

    A majority decides, so that a mask that is off by one is still recognised as a causal model with a fault.
    """
    longer = CAUSAL_PROBE_LENGTH if works_at(probe, CAUSAL_PROBE_LENGTH) else probe.length
    ids = probe.ids(length=longer)
    other = ids.clone()
    other[:, -1] = ids[:, -2]
    before, after = probe.logits(ids), probe.logits(other)
    changed = [not same(before[:, t], after[:, t]) for t in range(before.shape[1] - 1)]
    return sum(changed) <= len(changed) / 2


def works_at(probe: Probe, length: int) -> bool:
    """Whether the model runs on sequences of ``length`` tokens."""
    try:
        probe.run(probe.ids(length=length))
    except ExportError:
        return False
    return True


def largest_vocabulary(probe: Probe) -> int:
    """Return the number of ids that the model takes, found by trying, at most ``LARGEST_VOCABULARY``."""
    low, high = probe.contract.vocab_size, 2 * probe.contract.vocab_size
    while high < LARGEST_VOCABULARY and _takes(probe, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _takes(probe, middle) else (low, middle)
    return low


def _takes(probe: Probe, vocab_size: int) -> bool:
    ids = probe.ids()
    ids[:, -1] = vocab_size - 1
    try:
        probe.run(ids)
    except ExportError:
        return False
    return True


def watch_sizes(probe: Probe) -> tuple[int | None, int | None, int | None]:
    """Return the rows of the table of ids, of decoder ids, and the longest sequence that tables of positions allow."""
    ids = probe.ids()
    decoder_ids = probe.ids(1, decoder=True) if probe.contract.decoder_ids_argument else None
    watch = TableWatch([ids] if decoder_ids is None else [ids, decoder_ids], probe.length)
    with watch:
        probe.run(ids, decoder_ids)
    rows = [min(found) if found else None for found in watch.rows]
    limits = [limit for limit in sorted(watch.positions) if limit > LONGEST_TRIAL or not works_at(probe, limit + 1)]
    return rows[0], rows[1] if decoder_ids is not None else None, min(limits) if limits else None


def loss_behaviour(probe: Probe) -> tuple[bool, str | None]:
    """Whether the model computes a loss from labels, and how it shifts them.

    A loss that compares position t with label t + 1 ignores the first label and heeds the last.
    """
    ids = probe.ids()
    per_token = probe.logits(ids).dim() == 3
    classes = min(probe.contract.output_size, probe.contract.vocab_size)
    labels = ids % classes if per_token else torch.arange(probe.batch, device=ids.device) % classes
    try:
        loss = _loss(probe, ids, labels)
        if loss is None or not per_token:
            return loss is not None, None
        heeds_first = not same(loss, _loss_with(probe, ids, labels, 0, classes))
        heeds_last = not same(loss, _loss_with(probe, ids, labels, -1, classes))
    except ExportError:
        return False, None
    if heeds_last:
        return True, "unshifted" if heeds_first else "shifted"
    return True, None


def _loss(probe: Probe, ids: Tensor, labels: Tensor) -> Tensor | None:
    loss = find_loss(probe.run(ids, labels=labels))
    return None if loss is None else loss.detach().reshape(1).float()


def _loss_with(probe: Probe, ids: Tensor, labels: Tensor, position: int, classes: int) -> Tensor:
    changed = labels.clone()
    changed[:, position] = (labels[:, position] + 1) % classes
    loss = _loss(probe, ids, changed)
    return torch.full((1,), torch.nan) if loss is None else loss
