"""Check that no position of a causal model sees later tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import dependence, dependence_map, noise_level, replace_token
from transformer_foundry.core.checks.probing.localize import locate_change
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.sequence_axis import by_position
from transformer_foundry.core.checks.probing.trace import Trace

__all__ = ["check_causality"]

# A prefix language model lets the first tokens see each other. Test it at this multiple of the usual length; the
# prefix may be at most this share of it.
LONGER = 4
LARGEST_PREFIX_SHARE = 0.6
APPENDED = 3
# Other lengths run other kernels, which round differently.
LENGTH_TOLERANCE = 1e-3


def check_causality(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that no output position depends on a later token, in evaluation and in training mode."""
    if not subject.is_causal:
        return
    with generic_weights(subject.model):
        inputs = subject.inputs()
        changes = dependence_map(subject)
        noise = noise_level(changes)
        training = False
        leaks = _future(changes, noise)
        if not leaks.any() and _trains_differently(subject, inputs):
            changes = dependence(subject, inputs, training=True, attempts=1)
            noise = noise_level(changes)
            training, leaks = True, _future(changes, noise)
        if not leaks.any():
            yield from _length_dependence(subject, inputs)
            return
        prefix = _prefix(subject, leaks) if not training else None
        if prefix is not None:
            yield finding_at(
                "causality",
                "info",
                f"The first {prefix} tokens see each other, later ones see only earlier tokens: a prefix language "
                "model. The loss at those first positions is meaningless, because they see the answer.",
                subject.locator.forward(),
            )
            return
        location, trace = _locate_leak(subject, inputs, leaks, training)
    yield _leak(subject, changes, leaks, training, location, trace)


def _trains_differently(subject: ModelUnderTest, inputs: Inputs) -> bool:
    """Return whether training mode needs its own test; experts of a mixture are excluded for their limited capacity."""
    if any("expert" in str(key) for key in subject.config):
        return False
    return not torch.equal(subject.logits(inputs), subject.logits(inputs, training=True))


def _future(changes: Tensor, noise: float) -> Tensor:
    return torch.triu(changes > noise, diagonal=1)


def _length_dependence(subject: ModelUnderTest, inputs: Inputs) -> Iterator[Finding]:
    """Check that no output position depends on the number of tokens that follow."""
    whole = inputs.target
    kept = whole.shape[1] - APPENDED
    if kept < 2 or subject.equal_lengths:
        return
    long, short = subject.logits(inputs)[:, :kept], subject.logits(inputs.with_target(whole[:, :kept]))
    difference = float((long - short).abs().max())
    if difference <= LENGTH_TOLERANCE * float(short.abs().max()):
        return
    yield finding_at(
        "length dependence",
        "error",
        f"The output at a position depends on how many tokens follow: with {APPENDED} more tokens at the end, the "
        f"output at the first {kept} positions changes by {difference:.2g}, whatever these tokens are. The model then "
        "behaves differently in training and in generation. Usual cause: positions counted from the end, or an "
        "average over T.",
        _locate_length(subject, inputs, kept),
        "number positions from the start with torch.arange(T), and use no quantity that depends on T.",
    )


def _locate_length(subject: ModelUnderTest, inputs: Inputs, kept: int) -> Location:
    """Return the first location whose result at the first ``kept`` positions depends on how many follow."""
    length = inputs.target.shape[1]

    def first_rows(tensor: Tensor) -> Tensor:
        rows = by_position(tensor, length)
        rows = by_position(tensor, kept) if rows is None else rows[:kept]
        return tensor.new_zeros(1) if rows is None else rows

    def differs(left: Tensor, right: Tensor) -> bool:
        return bool((left - right).abs().max() > LENGTH_TOLERANCE * right.abs().max())

    shorter = inputs.with_target(inputs.target[:, :kept])
    location, _ = locate_change(subject, inputs, shorter, differs, part=first_rows)
    return location or subject.locator.forward()


def _prefix(subject: ModelUnderTest, leaks: Tensor) -> int | None:
    """Return the length of the prefix if the leaks are those of a prefix language model, otherwise None."""
    limit = subject.contract.max_length or LONGER * leaks.shape[1]
    length = min(limit, LONGER * leaks.shape[1])
    if length > leaks.shape[1]:
        changes = dependence(subject, subject.inputs(length=length))
        leaks = _future(changes, noise_level(changes))
    sources = leaks.any(dim=0).nonzero().flatten().tolist()
    prefix = max(sources, default=0) + 1
    block = leaks[:prefix, :prefix]
    is_whole = bool((block | ~torch.triu(torch.ones_like(block), 1)).all())
    return prefix if is_whole and 1 < prefix <= LARGEST_PREFIX_SHARE * length else None


def _locate_leak(
    subject: ModelUnderTest, inputs: Inputs, leaks: Tensor, training: bool
) -> tuple[Location | None, Trace]:
    position = int(leaks.any(dim=0).nonzero()[-1])
    other = inputs.with_target(replace_token(subject, inputs.target, position))
    seeing = leaks[:, position].nonzero().flatten()
    length = inputs.target.shape[1]

    def differs(left: Tensor, right: Tensor) -> bool:
        rows, others = by_position(left, length), by_position(right, length)
        if rows is None or others is None:
            return False
        change = (rows - others).abs().amax(dim=-1)
        scale = float(change.max())
        return bool((change[seeing] > max(1e-7, 1e-5 * scale)).any())

    return locate_change(subject, inputs, other, differs, training=training)


def _leak(
    subject: ModelUnderTest, changes: Tensor, leaks: Tensor, training: bool, location: Location | None, trace: Trace
) -> Finding:
    worst = torch.where(leaks, changes, torch.zeros_like(changes))
    row, column = divmod(int(worst.argmax()), changes.shape[1])
    distances = {int(column - row) for row, column in leaks.nonzero().tolist()}
    location = location or subject.locator.forward()
    own = float(changes[column, column])
    reach = (
        "Each position sees exactly the next token, which it is trained to predict"
        if distances == {1}
        else f"{int(leaks.sum())} of {leaks.numel() // 2 - len(leaks) // 2} pairs of positions leak"
    )
    where = "decoder position" if subject.kind == "encoder-decoder" else "position"
    mode = " in training mode (not in evaluation mode)" if training else ""
    message = (
        f"The model sees the future{mode}: replacing token {column} changes the output at the earlier {where} {row} "
        f"by {worst.max():.2g} (at its own position by {own:.2g}). {reach}. In training it copies the answer instead "
        f"of predicting it: the loss falls, and generated text is nonsense.{_mask_line(subject, trace)}"
    )
    fix = (
        "set causal: a position may only attend to itself and to earlier ones."
        if location.block
        else "apply a causal mask to the scores before the softmax over the keys: is_causal=True, or "
        "scores.masked_fill(torch.ones(T, T).triu(1).bool(), -inf); in other blocks use no value of a later position."
    )
    return finding_at("causality", "error", message, location, fix)


def _mask_line(subject: ModelUnderTest, trace: Trace) -> str:
    lines = {call.line for call in trace.operations if call.name in ("triu", "tril", "triu_", "tril_") and call.line}
    found = sorted(line for line in lines if line is not None)
    if not found:
        return ""
    return f" A mask is created in {subject.locator.at(found[0]).file_name}:{found[0][1]}."
