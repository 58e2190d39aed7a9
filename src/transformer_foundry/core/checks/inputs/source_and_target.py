"""Check that an encoder-decoder uses both its source and its target."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from transformer_foundry.core.checks.attention.weights import attention_records
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import dependence, noise_level
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["check_source_and_target"]

# Attention weights below this belong to masked positions.
SMALLEST_WEIGHT = 1e-12


def check_source_and_target(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that every output position depends on each source token and on its own decoder token."""
    if not subject.takes_decoder_ids:
        return
    inputs = subject.inputs()
    with generic_weights(subject.model):
        of_target = dependence(subject, inputs)
        of_source = dependence(subject, inputs, of_source=True)
    noise = max(noise_level(of_target), noise_level(of_source))
    if not (of_source > noise).any():
        yield _source_ignored(subject)
    elif not (of_source > noise).all():
        yield _source_partly_hidden(of_source > noise, _cross_attention(subject))
    else:
        yield from _hidden_from_attention(subject)
        yield from _one_sided_encoder(subject)
    if subject.labels_positions and not (torch.diagonal(of_target) > noise).any():
        yield finding_at(
            "target",
            "error",
            "The output does not depend on the decoder's own tokens: replacing any of them changes nothing at its "
            "position. The decoder gets other inputs, so it cannot continue a text.",
            subject.locator.forward(),
            "pass the embedding of decoder_input_ids (the target) to the decoder, not the source.",
        )


def _hidden_from_attention(subject: ModelUnderTest) -> Iterator[Finding]:
    """Find source positions that a cross-attention gives no weight in any head, although nothing is padding."""
    inputs = subject.inputs()
    shape = (inputs.target.shape[1], inputs.ids.shape[1])
    if shape[0] == shape[1]:
        return
    for record in attention_records(subject.trace, subject.lengths):
        seen = record.weights.amax(dim=0) > SMALLEST_WEIGHT
        if record.weights.shape[-2:] == shape and record.over_keys and not seen.all():
            yield _source_partly_hidden(seen, subject.locator.module(record.module, record.line))
            return


def _one_sided_encoder(subject: ModelUnderTest) -> Iterator[Finding]:
    """Find an encoder in which every self-attention hides the later tokens of the source."""
    inputs = subject.inputs()
    size = inputs.ids.shape[1]
    if size == inputs.target.shape[1]:
        return
    records = [item for item in attention_records(subject.trace, {size}) if item.weights.shape[-2:] == (size, size)]
    above = torch.ones(size, size).triu(1).bool()
    if records and all(bool((item.weights[:, above] <= SMALLEST_WEIGHT).all()) for item in records):
        yield finding_at(
            "source",
            "warning",
            "The encoder reads the source from left to right only: no source token sees a later one, although the "
            "whole source is known. A token is encoded without the tokens that follow it.",
            subject.locator.module(records[0].module, records[0].line),
            "pass no causal mask to the encoder: only the decoder must not see later tokens.",
        )


def _source_ignored(subject: ModelUnderTest) -> Finding:
    return finding_at(
        "source",
        "error",
        "The output does not depend on the source: replacing any source token changes nothing. The decoder's "
        "cross-attention does not read the encoder, so a translation cannot depend on its text.",
        _cross_attention(subject),
        "take keys and values from the encoder's output, and only the queries from the decoder.",
    )


def _source_partly_hidden(seen: torch.Tensor, location: Location) -> Finding:
    row, column = (~seen).nonzero()[0].tolist()
    hidden = int((~seen).sum())
    return finding_at(
        "source",
        "warning",
        f"Part of the source is hidden from the decoder: {hidden} of {seen.numel()} pairs do not depend on each "
        f"other, for example output {row} on source token {column}. Each token of a translation may need any token of "
        "its source.",
        location,
        "pass no causal mask to the cross-attention: hide only padding of the source.",
    )


def _cross_attention(subject: ModelUnderTest) -> Location:
    """Return the location of the cross-attention, found by the shape of its weights, otherwise by its name."""
    inputs = subject.inputs()
    source, target = inputs.ids.shape[1], inputs.target.shape[1]
    attention = [call for call in subject.trace.operations if call.output.ndim >= 3 and "softmax" in call.name]
    named = [call for call in subject.trace.modules if "cross" in call.module or "enc" in call.module.split(".")[-1]]
    crossing = [call for call in attention if call.output.shape[-2:] == (target, source)]
    named = [call for call in named if call.module.startswith(("dec", "transformer.dec")) or "cross" in call.module]
    named.sort(key=lambda call: call.module.count("."))
    calls: list[TracedCall] = crossing + named
    if not calls:
        return subject.locator.forward()
    return subject.locator.module(calls[0].module, calls[0].line)
