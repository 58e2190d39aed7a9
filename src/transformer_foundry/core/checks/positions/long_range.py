"""Check causality on long texts: a mask may be right for the first tokens only."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import noise_level, replace_token
from transformer_foundry.core.checks.probing.localize import locate_change
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, declared_length, generic_weights
from transformer_foundry.core.checks.probing.sequence_axis import by_position

__all__ = ["check_long_causality"]

LONGEST = 256
LARGEST_BATCH = 4_000_000


def check_long_causality(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that on a long text no output depends on a token in its second half that comes later."""
    affordable = LARGEST_BATCH // max(1, subject.contract.output_size)
    length = min(declared_length(subject), LONGEST, affordable)
    if not subject.is_causal or length <= subject.length:
        return
    inputs = subject.inputs(length=length)
    with generic_weights(subject.model):
        base = subject.logits(inputs)
        for position in (length - 1, 3 * length // 4, length // 2):
            other = inputs.with_target(replace_token(subject, inputs.target, position))
            changes = (subject.logits(other) - base).abs().amax(dim=-1)[0]
            leaks = changes[:position] > noise_level(changes)
            if not leaks.any():
                continue

            def differs(left: Tensor, right: Tensor, end: int = position) -> bool:
                rows, others = by_position(left, length), by_position(right, length)
                if rows is None or others is None:
                    return False
                scale = float(rows.abs().max())
                return not torch.allclose(rows[:end], others[:end], rtol=0, atol=1e-4 * scale)

            location, _ = locate_change(subject, inputs, other, differs)
            seen = leaks.nonzero().flatten()
            yield finding_at(
                "causality",
                "error",
                f"On a text of {length} tokens, {len(seen)} positions see the future: position {int(seen[0])} changes "
                f"by {float(changes[:position].max()):.2g} with the token at position {position}. On the first "
                f"{subject.length} tokens the mask is right. In training the model copies the answer.",
                location or subject.locator.forward(),
                "build the mask for the whole length of the text: torch.ones(T, T, dtype=torch.bool).triu(1).",
            )
            return
