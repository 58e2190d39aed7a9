"""Infer the meaning of a model's masks by passing them: padded tokens must not influence real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.inference.behavior import is_causal
from transformer_foundry.core.models.inference.call import CAUSAL_FORMS
from transformer_foundry.core.models.inference.probe import Probe, same

__all__ = ["infer_causal_masks", "infer_padding_masks"]

# In an encoder-decoder these belong to the encoder, which is not causal.
SOURCE_PREFIXES = ("src", "source", "enc", "memory", "mask")
# Ratings of a form, worst first; see ``_rate``.
FAILS, RUNS, HARMLESS, HIDES = range(4)


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


def infer_padding_masks(probe: Probe) -> Probe:
    """Return the probe with the meaning of the padding masks of its ids and decoder ids known.

    Every form is passed with a hole in the middle of the sequence, so that each position can still attend to something.
    A form is right if it changes nothing where all tokens are real and hides the tokens in the hole. If no form is, the
    name decides: a bare ``mask`` is then taken for a (T, T) mask, which is never passed.
    """
    contract = probe.contract
    if contract.mask_argument is not None:
        # The decoder's mask is inferred second, unless forward requires it.
        decoder_mask = contract.decoder_mask_argument
        passed = decoder_mask if decoder_mask in contract.required_masks else None
        probe = _infer_form(probe.with_contract(decoder_mask_argument=passed), contract.mask_argument)
        probe = probe.with_contract(decoder_mask_argument=decoder_mask)
    if contract.decoder_mask_argument is not None:
        probe = _infer_form(probe, contract.decoder_mask_argument)
    return probe


def infer_causal_masks(probe: Probe, required: Iterable[str]) -> Probe:
    """Return the probe with causal masks for the (T, T) masks that ``forward`` requires and depends on.

    An optional mask is never passed: a model that builds none itself then sees the future, which the checks report.

    Args:
        probe: A probe whose kind and task are known.
        required: The mask arguments without a default.
    """
    contract = probe.contract
    if contract.kind == "encoder-only" or contract.scores_texts or contract.next_token_only:
        return probe
    has_source = contract.kind == "encoder-decoder"
    names = [
        name for name in required if not _is_explicit(name) and not (has_source and name.startswith(SOURCE_PREFIXES))
    ]
    if not names or is_causal(probe):
        return probe
    for form in CAUSAL_FORMS:
        causal = probe.with_contract(
            fixed_arguments=contract.with_fixed_arguments(names, form).fixed_arguments,
            mask_argument=None if contract.mask_argument in names else contract.mask_argument,
            decoder_mask_argument=None if contract.decoder_mask_argument in names else contract.decoder_mask_argument,
            required_masks=tuple(name for name in contract.required_masks if name not in names),
        )
        try:
            if is_causal(causal):
                return causal
        except ModelError:
            continue
    return probe


def _infer_form(probe: Probe, name: str) -> Probe:
    is_decoder = name == probe.contract.decoder_mask_argument
    # Both masks of a model have the same form.
    forms = [_known_form(probe)] if is_decoder and probe.contract.mask_meaning is not None else _forms(name)
    best, chosen = FAILS, forms[0]
    for form in forms:
        rating = _rate(_with_form(probe, form), name, is_decoder)
        if rating > best:
            best, chosen = rating, form
        if best == HIDES:
            break
    is_required = name in probe.contract.required_masks
    if best >= HARMLESS or (best == RUNS and (is_required or _is_explicit(name))):
        return _with_form(probe, chosen)
    if is_decoder:
        return probe.with_contract(decoder_mask_argument=None)
    return probe.with_contract(mask_argument=None, mask_meaning=None)


def _forms(name: str) -> list[_Form]:
    says_padding = "pad" in name and "attention" not in name
    usual = (PADDING_BOOL, REAL, REAL_BOOL) if says_padding else (REAL, REAL_BOOL, PADDING_BOOL)
    return [*usual, *OTHER_FORMS]


def _known_form(probe: Probe) -> _Form:
    contract = probe.contract
    return _Form(contract.mask_meaning or "real", contract.mask_dtype, contract.mask_dims)


def _is_explicit(name: str) -> bool:
    """Return whether the name alone identifies a padding mask."""
    return "pad" in name or "attention" in name


def _with_form(probe: Probe, form: _Form) -> Probe:
    return probe.with_contract(mask_meaning=form.meaning, mask_dtype=form.dtype, mask_dims=form.dims)


def _rate(probe: Probe, name: str, is_decoder: bool) -> int:
    """Return ``FAILS``, ``RUNS``, ``HARMLESS`` (no effect without padding) or ``HIDES`` (and hides padding)."""
    source, target = probe.ids(), probe.ids(1, decoder=True) if probe.contract.decoder_ids_argument else None
    ids = target if is_decoder and target is not None else source
    real, hole = torch.ones_like(ids), _holes(ids)
    other = torch.where(hole == 0, ids.roll(1, dims=1), ids)
    try:
        masked = _run(probe, source, target, hole, is_decoder)
        changed = _run(probe, *((source, other) if is_decoder else (other, target)), hole, is_decoder)
        whole = _run(probe, source, target, real, is_decoder)
        bare = whole if name in probe.contract.required_masks else probe.logits(source, target)
    except ModelError:
        return FAILS
    if not same(whole, bare):
        return RUNS
    if masked.dim() == 3 and (is_decoder or target is None) and masked.shape[1] == hole.shape[1]:
        masked, changed = masked[hole == 1], changed[hole == 1]
    return HIDES if same(masked, changed) else HARMLESS


def _holes(ids: Tensor) -> Tensor:
    """Return a (B, T) mask with a third missing in the middle, shifted in every other row to tell rows apart."""
    batch, length = ids.shape
    start = length // 3 + torch.arange(batch, device=ids.device)[:, None] % 2
    positions = torch.arange(length, device=ids.device)
    return ((positions < start) | (positions >= start + max(1, length // 3))).long()


def _run(probe: Probe, source: Tensor, target: Tensor | None, mask: Tensor, is_decoder: bool) -> Tensor:
    if is_decoder:
        return probe.logits(source, target, decoder_attention_mask=mask)
    return probe.logits(source, target, attention_mask=mask)
