"""Dependence maps: which positions of the output change when one token of the input is replaced."""

from __future__ import annotations

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest

__all__ = ["dependence", "dependence_map", "noise_level", "replace_token"]

# Other kernels round differently: a difference below this share of the largest measured change is rounding.
RELATIVE_NOISE = 2e-5
ABSOLUTE_NOISE = 1e-6
REPLACEMENTS = 2
SMALLEST_SCALE = 1e-12


def dependence(
    subject: ModelUnderTest,
    inputs: Inputs,
    *,
    of_source: bool = False,
    training: bool = False,
    attempts: int = REPLACEMENTS,
) -> Tensor:
    """Measure how much each output position changes when one token is replaced by another.

    Args:
        subject: The model under test.
        inputs: One sample, (1, T).
        of_source: Replace tokens of an encoder-decoder's source instead of those at the positions of the logits.
        training: Run in training mode, every run from the same seed, so that dropout is the same in all.
        attempts: Number of other tokens to try at each position.

    Returns:
        (S, T) float: largest absolute change of the logits at position s when token t is replaced, as a share of the
        largest logit when that is below 1; (1, T) for a model with one row of logits per sample.
    """
    ids = inputs.ids if of_source or inputs.decoder_ids is None else inputs.decoder_ids
    others = [
        _with_ids(inputs, replace_token(subject, ids, position, attempt), of_source)
        for position in range(ids.shape[1])
        for attempt in range(attempts)
    ]
    runs = [inputs, *others]
    # Dropout differs within a batch: in training mode every sample is run separately, from the same seed.
    if training or subject.mixes_samples:
        logits = torch.cat([subject.logits(run, seed=7, training=training) for run in runs])
    else:
        logits = subject.logits(_stacked(runs), seed=7)
    # Relative to small logits: rounding errors shrink with them, so weak dependence remains above the noise.
    logits = logits / logits[:1].abs().max().clamp(min=SMALLEST_SCALE, max=1.0)
    changes = (logits[1:] - logits[:1]).abs().amax(dim=-1).reshape(ids.shape[1], attempts, -1)
    return changes.amax(dim=1).T.contiguous()


def dependence_map(subject: ModelUnderTest) -> Tensor:
    """Return the dependence map of the probe inputs, measured once; call it under generic weights."""
    if subject.measurements.dependence is None:
        subject.measurements.dependence = dependence(subject, subject.inputs())
    return subject.measurements.dependence


def _stacked(runs: list[Inputs]) -> Inputs:
    decoder_ids = [run.decoder_ids for run in runs if run.decoder_ids is not None]
    return Inputs(torch.cat([run.ids for run in runs]), None, torch.cat(decoder_ids) if decoder_ids else None)


def replace_token(subject: ModelUnderTest, ids: Tensor, position: int, seed: int = 0) -> Tensor:
    """Return (B, T) ids with the token at ``position`` replaced by an ordinary one that is not in ``ids``."""
    unused = [int(token) for token in subject.ordinary_ids[:4096] if not bool((ids == token).any())]
    pool = unused or [int(token) for token in subject.ordinary_ids]
    generator = torch.Generator().manual_seed(77 + 31 * position + seed)
    token = pool[int(torch.randint(len(pool), (1,), generator=generator))]
    changed = ids.clone()
    changed[:, position] = token
    return subject.contract.end_with_eos(changed)


def noise_level(changes: Tensor) -> float:
    """Return the difference of logits below which it is rounding, given the changes that were measured."""
    return max(ABSOLUTE_NOISE, RELATIVE_NOISE * float(changes.max()))


def _with_ids(inputs: Inputs, ids: Tensor, of_source: bool) -> Inputs:
    return Inputs(ids, inputs.mask, inputs.decoder_ids) if of_source else inputs.with_target(ids)
