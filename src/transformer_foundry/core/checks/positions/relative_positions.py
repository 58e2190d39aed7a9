"""Check relative positions: with equal tokens, attention depends on distances only."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.weights import SOFTMAX, AttentionRecord, attention_records
from transformer_foundry.core.checks.positions.declared_positions import DeclaredPositions, find_declared_positions
from transformer_foundry.core.checks.positions.position_embeddings import SHORTEST_TABLE, longest_probe
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.sequence_axis import by_position
from transformer_foundry.core.checks.probing.trace import Trace, TracedCall

__all__ = [
    "LENGTH",
    "SAME",
    "SHORTER",
    "attends",
    "check_relative_positions",
    "equal_tokens",
    "positions_in_stream",
    "varies",
]

SAME = 1e-4
PRODUCTS = ("matmul", "__matmul__", "bmm", "einsum", "baddbmm")
LENGTH = 40
# How much shorter the source is, to distinguish encoder and decoder.
SHORTER = 3


def check_relative_positions(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that relative positions have an effect and depend on distances only."""
    length = longest_probe(subject, LENGTH)
    if length < SHORTEST_TABLE or subject.positions_reported:
        return
    inputs = equal_tokens(subject, length, length - SHORTER)
    with generic_weights(subject.model):
        record = subject.traced(inputs)
    lengths = sorted({inputs.target.shape[1], inputs.ids.shape[1]}, reverse=True)
    declared = find_declared_positions(subject)
    for size in lengths:
        records = [item for item in attention_records(record, {size}) if item.weights.shape[-2:] == (size, size)]
        if not records or positions_in_stream(record, size):
            continue  # With absolute positions attention may depend on each position.
        if all(_is_even(item) for item in records):
            one_sided = _one_sided(record, size)
            if one_sided is not None:
                yield _only_one(subject, *one_sided, size)
                return
            declaration = declared or _declared_by_other_stack(record, lengths, size)
            if declaration is not None:
                yield _no_effect(subject, records[0], declaration, size)
                return
            continue
        finding = _wrong_distances(subject, [item for item in records if item.over_keys], size)
        if finding is not None:
            yield finding
            return


def _wrong_distances(subject: ModelUnderTest, records: list[AttentionRecord], length: int) -> Finding | None:
    for attention in records:
        deviation = _deviation_from_distance(attention)
        if deviation > 100 * SAME:
            return _not_relative(subject, attention, deviation, length)
    return None


def _declared_by_other_stack(record: Trace, lengths: list[int], size: int) -> DeclaredPositions | None:
    """Return a declaration for a stack without positions if the other one, encoder or decoder, has them."""
    for other in lengths:
        records = [item for item in attention_records(record, {other}) if item.weights.shape[-2:] == (other, other)]
        if other != size and not all(_is_even(item) for item in records):
            return DeclaredPositions("the other stack")
    return None


def equal_tokens(subject: ModelUnderTest, length: int, source: int | None = None) -> Inputs:
    """Return inputs that repeat one token, so that differences between positions come from the positions."""
    source = source or length
    inputs = subject.inputs(length=length, source=source)
    token = int(subject.ordinary_ids[len(subject.ordinary_ids) // 2])
    filled = [None if ids is None else torch.full_like(ids, token) for ids in (inputs.ids, inputs.decoder_ids)]
    assert filled[0] is not None
    return Inputs(filled[0], None, filled[1])


def attends(call: TracedCall, length: int) -> bool:
    """Return whether a call is attention of ``length`` queries."""
    is_attention = call.name in (*SOFTMAX, "scaled_dot_product_attention", "multi_head_attention_forward")
    return is_attention and call.output.ndim >= 3 and call.output.shape[-2] == length


def positions_in_stream(record: Trace, length: int) -> bool:
    """Return whether positions differ before the first attention, in a trace of equal tokens."""
    for call in record.calls:
        if attends(call, length):
            return False
        rows = by_position(call.output, length)
        if rows is not None and varies(rows):
            return True
    return True  # There is no attention, so nothing to report.


def varies(rows: Tensor) -> bool:
    """Return whether the (T, D) vectors of positions differ."""
    return bool((rows - rows[:1]).abs().max() > SAME * rows.abs().max())


def _is_even(attention: AttentionRecord) -> bool:
    """Return whether every visible key gets the same weight, so that nothing depends on positions."""
    seen = attention.weights > 1e-12
    high = attention.weights.amax(dim=-1)
    low = attention.weights.masked_fill(~seen, torch.inf).amin(dim=-1)
    return bool((high - low <= SAME * high).all())


def _one_sided(record: Trace, length: int) -> tuple[TracedCall, str] | None:
    """Return an attention of which only queries or only keys are turned by their positions, and which."""
    for index, call in enumerate(record.operations):
        pair = _queries_and_keys(record.operations[:index], call)
        turned = [_is_turned(item, length) for item in pair]
        if None not in turned and sum(map(bool, turned)) == 1:
            return call, "queries" if turned[0] else "keys"
    return None


def _queries_and_keys(before: list[TracedCall], call: TracedCall) -> tuple[Tensor, ...]:
    """Return the factors of the scores of an attention; nothing if they are unknown."""
    if call.name == "scaled_dot_product_attention":
        return call.inputs[:2]
    if call.name not in SOFTMAX or call.output.ndim < 3:
        return ()
    for earlier in reversed(before):
        if earlier.module != call.module:
            break
        if earlier.name in PRODUCTS and earlier.output.shape == call.output.shape and len(earlier.inputs) == 2:
            return earlier.inputs
    return ()


def _is_turned(vectors: Tensor, length: int) -> bool | None:
    """Return whether vectors of equal tokens differ in direction; None if their axis of positions is not certain."""
    axes = [axis for axis, size in enumerate(vectors.shape) if size == length]
    if len(axes) != 1:
        return None
    rows = vectors.float().movedim(axes[0], 0).flatten(1)
    return varies(rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12))


def _only_one(subject: ModelUnderTest, attention: TracedCall, turned: str, length: int) -> Finding:
    other = "keys" if turned == "queries" else "queries"
    return finding_at(
        "positions",
        "warning",
        f"Only the {turned} depend on positions, the {other} do not: with {length} equal tokens all {other} are equal "
        f"vectors and the {turned} are not. Scores then depend on the position of one side, not on the distance of "
        "the two, and attention cannot tell near tokens from distant ones.",
        subject.locator.at(attention.line, attention.module),
        "rotate queries and keys by the same angles: q = rotate(q, cos, sin); k = rotate(k, cos, sin).",
    )


def _no_effect(
    subject: ModelUnderTest, attention: AttentionRecord, declared: DeclaredPositions, length: int
) -> Finding:
    return finding_at(
        "positions",
        "warning",
        f"Positions have no effect, although {declared.text} declares them: with {length} equal tokens every position "
        "gets the same vector and attends evenly to all it sees. The model knows at most the number of earlier "
        "tokens, not their order.",
        declared.location or subject.locator.module(attention.module, attention.line),
        "add the position encoding to the embeddings, or rotate both queries and keys by their positions.",
    )


def _deviation_from_distance(attention: AttentionRecord) -> float:
    """Return how much differences of log-weights between adjacent keys depend on more than the distance."""
    # A first token that represents the whole text may be excluded from relative positions.
    weights = attention.weights[:, 1:, 1:]
    logs, seen = weights.clamp(min=1e-20).log(), weights > 1e-12
    steps, known = logs[:, :, 1:] - logs[:, :, :-1], seen[:, :, 1:] & seen[:, :, :-1]
    length, worst = logs.shape[-1], 0.0
    for offset in range(-length + 2, length - 2):
        diagonal = torch.diagonal(steps, offset, dim1=1, dim2=2)
        valid = torch.diagonal(known, offset, dim1=1, dim2=2)
        spread = _spread(diagonal, valid)
        worst = max(worst, spread)
    return worst


def _spread(values: Tensor, valid: Tensor) -> float:
    high = values.masked_fill(~valid, -torch.inf).amax(dim=1)
    low = values.masked_fill(~valid, torch.inf).amin(dim=1)
    found = (high - low)[valid.sum(dim=1) > 1]
    return float(found.max()) if len(found) else 0.0


def _not_relative(subject: ModelUnderTest, attention: AttentionRecord, deviation: float, length: int) -> Finding:
    return finding_at(
        "positions",
        "warning",
        f"Attention does not depend on distances only: with {length} equal tokens, two pairs of positions at the same "
        f"distance get weights that differ by {deviation:.2g} (in logarithms). No absolute positions are added, so "
        "the positions inside the attention (rotary, ALiBi, relative bias) are applied wrongly: to queries but not "
        "keys, with opposite signs, or numbered along the wrong axis.",
        subject.locator.module(attention.module, attention.line),
        "rotate queries and keys by the same angles, numbered along the axis of length T.",
    )
