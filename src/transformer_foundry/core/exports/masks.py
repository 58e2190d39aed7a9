"""What a model means by its mask, found by feeding it: the content of padding must not reach real tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.errors import ExportError
from transformer_foundry.core.exports.probe import Probe, same

__all__ = ["settle_mask"]


@dataclass(frozen=True)
class _Form:
    meaning: str
    dtype: str = "int64"
    dims: int = 2


REAL = _Form("real")
REAL_BOOL = _Form("real", "bool")
PADDING_BOOL = _Form("padding", "bool")
OTHER_FORMS = (
    _Form("real", "float32"), _Form("padding"), _Form("real", "int64", 4), _Form("padding", "bool", 4),
    _Form("real", "int64", 3), _Form("padding", "bool", 3), _Form("real", "bool", 4), _Form("real", "bool", 3),
)  # fmt: skip


def settle_mask(probe: Probe, *, decoder: bool = False) -> Probe:
    """Return the probe with the meaning of the mask of its ids (or of its decoder ids) settled.

    Every form is fed with a hole in the middle of the sequence, so that each position keeps something to look at.
    A form is right when it changes nothing where all tokens are real and hides what is in the hole. If none is, the
    name decides; a bare ``mask`` is then taken for a (T, T) mask and never fed.
    """
    name = probe.contract.decoder_mask_argument if decoder else probe.contract.mask_argument
    if name is None:
        return probe
    if decoder and probe.contract.mask_meaning is not None:
        # One model means the same by both of its masks.
        return probe
    says_padding = "pad" in name and "attention" not in name
    ordered = (PADDING_BOOL, REAL, REAL_BOOL) if says_padding else (REAL, REAL_BOOL, PADDING_BOOL)
    rated = [(_rate(_with_form(probe, form), name, decoder), form) for form in (*ordered, *OTHER_FORMS)]
    best = max(rating for rating, _ in rated)
    form = next(form for rating, form in rated if rating == best)
    explicit = "pad" in name or "attention" in name
    if best >= 2 or (best == 1 and (explicit or name in probe.contract.required_masks)):
        return _with_form(probe, form)
    return _without(probe, decoder)


def _with_form(probe: Probe, form: _Form) -> Probe:
    return probe.knowing(mask_meaning=form.meaning, mask_dtype=form.dtype, mask_dims=form.dims)


def _without(probe: Probe, decoder: bool) -> Probe:
    if decoder:
        return probe.knowing(decoder_mask_argument=None)
    return probe.knowing(mask_argument=None, mask_meaning=None)


def _rate(probe: Probe, name: str, decoder: bool) -> int:
    """0: does not run; 1: runs; 2: and changes nothing where all is real; 3: and hides the content of padding."""
    source, target = probe.ids(), probe.ids(1, decoder=True) if probe.contract.decoder_ids_argument else None
    ids = target if decoder and target is not None else source
    real = torch.ones_like(ids)
    hole = real.clone()
    hole[:, probe.length // 3 : 2 * probe.length // 3] = 0
    other = torch.where(hole == 0, ids.roll(1, dims=1), ids)
    try:
        masked = _run(probe, source, target, hole, decoder)
        changed = _run(probe, *((source, other) if decoder else (other, target)), hole, decoder)
        whole = _run(probe, source, target, real, decoder)
        bare = whole if name in probe.contract.required_masks else probe.logits(source, target)
    except ExportError:
        return 0
    if not same(whole, bare):
        return 1
    positional = masked.dim() == 3 and (decoder or probe.contract.decoder_ids_argument is None)
    visible = hole[0] == 1 if positional and masked.shape[1] == hole.shape[1] else slice(None)
    return 3 if same(masked[:, visible], changed[:, visible]) else 2


def _run(probe: Probe, source: Tensor, target: Tensor | None, mask: Tensor, decoder: bool) -> Tensor:
    if decoder:
        return probe.logits(source, target, decoder_attention_mask=mask)
    return probe.logits(source, target, attention_mask=mask)
