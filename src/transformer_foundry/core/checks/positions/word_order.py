"""Check that positions do not repeat, and that an encoder distinguishes orders of words."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from transformer_foundry.core.checks.positions.declared_positions import find_declared_positions
from transformer_foundry.core.checks.positions.position_embeddings import longest_probe
from transformer_foundry.core.checks.positions.relative_positions import SAME, attends, equal_tokens, varies
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.sequence_axis import by_position
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import Trace

__all__ = ["check_word_order"]

LONGEST = 160


def check_word_order(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that position encodings do not repeat, and an encoder distinguishes orders of words."""
    length = longest_probe(subject, LONGEST)
    with generic_weights(subject.model):
        constant = equal_tokens(subject, length)
        record = subject.traced(constant)
    repeated = _repetition(record, length)
    if repeated is not None:
        subject.positions_reported = True
        step_module, line, period = repeated
        yield finding_at(
            "positions",
            "warning",
            f"Positions repeat: position {period} and position 0 get exactly the same position encoding (tested with "
            f"{length} equal tokens). The model cannot distinguish them.",
            subject.locator.module(step_module, line),
            "number the positions from 0 to T - 1, without a modulo or a clamp below the longest sequence.",
        )
    if subject.kind == "encoder-only" and subject.labels_positions and _is_blind_to_order(subject):
        subject.positions_reported = True
        yield _order_blind(subject)


def _repetition(record: Trace, length: int) -> tuple[str, SourceLine | None, int] | None:
    """Return (module, line, period) of the positions, if the input of the first attention is periodic."""
    streams = []
    for call in record.calls:
        if attends(call, length):
            break
        rows = by_position(call.output, length)
        if rows is not None and varies(rows):
            streams.append((call, rows))
    if not streams:
        return None
    first, rows = streams[0][0], streams[-1][1]
    distance = (rows - rows[:1]).abs().amax(dim=1)
    same = (distance[1:] <= SAME * rows.abs().max()).nonzero().flatten()
    return (first.module, first.line, int(same[0]) + 1) if len(same) else None


def _is_blind_to_order(subject: ModelUnderTest) -> bool:
    """Return whether swapping two words only swaps their outputs and changes nothing elsewhere."""
    with generic_weights(subject.model):
        inputs = subject.inputs()
        swapped = inputs.ids.clone()
        swapped[:, [1, -2]] = inputs.ids[:, [-2, 1]]
        base, moved = subject.logits(inputs), subject.logits(Inputs(swapped))
    expected = base.clone()
    expected[:, [1, -2]] = base[:, [-2, 1]]
    return bool(torch.allclose(moved, expected, rtol=0, atol=SAME * float(base.abs().max())))


def _order_blind(subject: ModelUnderTest) -> Finding:
    declared = find_declared_positions(subject)
    location = (declared.location if declared else None) or subject.locator.forward()
    message = (
        "The model cannot distinguish orders of words: swapping two words swaps their outputs and changes nothing else."
    )
    if declared is None:
        return finding_at("positions", "info", f"{message} It has no positions, which may be intended.", location)
    return finding_at(
        "positions",
        "warning",
        f"{message} But {declared.text} declares positions: they have no effect.",
        location,
        "add the position encoding to the embeddings, or rotate queries and keys by their positions.",
    )
