"""Check that the residual stream does not grow with the length of the text, as sums over positions do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, declared_length, generic_weights
from transformer_foundry.core.checks.probing.trace import TracedCall
from transformer_foundry.core.models.inference import config_hints

__all__ = ["check_growth"]

LONGEST = 512
SHORTEST = 32
LARGEST_LOGITS = 2_000_000
ADDITIONS = frozenset({"add", "__add__", "__radd__", "__iadd__", "add_"})
# Growth over a factor of 8 in length: an average gives 1, a sum of independent numbers 2.8, a sum of equal ones 8.
LENGTHENING = 8
LARGEST_GROWTH = 4.0
# Growth over the last doubling, near 1 for a recurrence whose state decays slowly and 2 for a sum of equal numbers.
LARGEST_LATE_GROWTH = 1.7
# A sum is larger at nearly all late positions than at early ones; of a part that few positions take only some are.
SMALLEST_STEADY_GROWTH = 1.5
NEARLY_ALL = 0.8


def check_growth(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that what is added to the residual stream at late positions is no larger than at early ones."""
    declared = config_hints.max_length_hint(subject.config) or subject.contract.max_length
    # Without a limit the length tells a slow decay from a sum.
    length = min(
        declared_length(subject) if declared else LONGEST,
        LONGEST,
        LARGEST_LOGITS // max(1, subject.contract.output_size),
    )
    # No other axis, as the channels of a recurrent state, may be taken for that of positions.
    widths = {size for parameter in subject.model.parameters() for size in parameter.shape}
    length = next((size for size in range(length, SHORTEST - 1, -1) if size not in widths), 0)
    if length < SHORTEST:
        return
    inputs = subject.inputs(batch=2, length=length)
    repeated = inputs.target.clone()
    repeated[:] = repeated[:, 1:2]
    with generic_weights(subject.model):
        calls = subject.traced(inputs.with_target(repeated)).operations
    for index, call in enumerate(calls):
        if call.name in ADDITIONS and call.output.ndim == 3 and call.output.shape[1] == length:
            growth = _growth(call.output)
            is_late = _growth(call.output, 2) > LARGEST_LATE_GROWTH
            if growth > LARGEST_GROWTH and is_late and _steady_growth(call.output) > SMALLEST_STEADY_GROWTH:
                yield _finding(subject, calls[: index + 1], length, growth)
                return


def _growth(values: Tensor, factor: int = LENGTHENING) -> float:
    """Return the size at the end by that at the position where the text is ``factor`` times shorter: (B, T, D)."""
    length, sizes = values.shape[1], _sizes(values)
    first, around = length // factor, max(1, length // 32)
    early, late = sizes[first - around : first + around].mean(), sizes[-around:].mean()
    return float(late / early.clamp(min=1e-12)) if bool(torch.isfinite(late)) else 0.0


def _steady_growth(values: Tensor) -> float:
    """Return the least size of nearly all late positions by the largest of nearly all early ones: (B, T, D)."""
    length, sizes = values.shape[1], _sizes(values)
    early = sizes[: length // LENGTHENING].quantile(NEARLY_ALL)
    return float(sizes[length // 2 :].quantile(1 - NEARLY_ALL) / early.clamp(min=1e-12))


def _sizes(values: Tensor) -> Tensor:
    return values.float().pow(2).mean(dim=(0, 2)).sqrt()


def _finding(subject: ModelUnderTest, calls: list[TracedCall], length: int, growth: float) -> Finding:
    last = calls[-1]
    added = {tensor.data_ptr() for tensor in last.inputs}
    same = (
        call for call in reversed(calls[:-1]) if call.raw.data_ptr() in added and _growth_of(call, length) > growth / 2
    )
    source = next(chain(same, [last]))
    return finding_at(
        "length dependence",
        "warning",
        f"The activations grow with the length of the text: {growth:.1f} times from position "
        f"{length // LENGTHENING} to {length}, for equal tokens{subject.source.quoted(source.line)}. A sum over "
        "positions is not divided by its weights, so late positions drown the others and overflow in float16.",
        subject.locator.at(source.line, source.module),
        "divide the sum by that of its weights (linear attention: q @ sum(k v) / (q @ sum(k) + 1e-6)), or normalize it "
        "before it is added.",
    )


def _growth_of(call: TracedCall, length: int) -> float:
    return _growth(call.output) if call.output.ndim == 3 and call.output.shape[1] == length else 0.0
