"""Check that neither the content nor the amount of padding changes the output."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.weights import attention_records
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import RELATIVE_NOISE, replace_token
from transformer_foundry.core.checks.probing.localize import locate_change
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.sequence_axis import by_position
from transformer_foundry.core.checks.probing.source_map import SourceLine

__all__ = ["check_padding"]

# Attention over another number of keys sums in another order; visible padding changes the output far more.
RELATIVE_TOLERANCE = 1e-3
PADS = 4
# Attention weights below this belong to masked positions.
SMALLEST_WEIGHT = 1e-6


@dataclass(frozen=True)
class _Trial:
    """Outputs of one text with different padding: how much they differ, and how large they are."""

    first: Inputs
    second: Inputs
    moved: float
    reference: float
    scale: float

    @property
    def is_visible(self) -> bool:
        return not self.moved <= max(RELATIVE_NOISE * self.scale, RELATIVE_TOLERANCE * self.reference)


def check_padding(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the output at real tokens is the same for any content and any amount of padding on the right."""
    length = subject.inputs().ids.shape[1]
    if length <= PADS:
        return
    argument = subject.contract.mask_argument
    if subject.contract.mask_meaning == "padding" and "attention_mask" in str(argument):
        yield _inverted(subject)
    with generic_weights(subject.model):
        moved = _whole_mask_moves(subject)
        if moved is not None:
            yield _moved_by_whole_mask(subject, moved)
        elif subject.kind == "decoder-only" and subject.labels_positions:
            if argument is not None:  # A causal model does not see padding on the right; test a gap instead.
                yield from _with_gap(subject)
        elif argument is None:
            yield from _without_mask(subject)
        else:
            yield from _with_mask(subject)


def _with_mask(subject: ModelUnderTest) -> Iterator[Finding]:
    real, padded = _padded(subject)
    other = replace(padded, ids=torch.cat([padded.ids[:, :-PADS], subject.tokens(1, PADS, seed=21)], dim=1))
    content = _trial(subject, padded, other, real.ids.shape[1])
    amount = _trial(subject, real, padded, real.ids.shape[1])
    argument = subject.contract.mask_argument
    if content.is_visible and _knows_padding_by_id(subject, real, padded):
        return
    if content.is_visible:
        location, reach = _locate(subject, content, real.ids.shape[1])
        if reach is not None and (reach <= PADS or _mixes_neighbors(subject, content, location)):
            yield _seen_across_border(location, reach)
            return
        yield finding_at(
            "padding",
            "error" if subject.kind != "decoder-only" else "warning",
            f"The padding is visible although {argument} masks it: other tokens at the {PADS} masked positions change "
            f"the output at the real ones by {content.moved:.2g} (replacing a real token: {content.reference:.2g}). "
            "The result for a text depends on the tokens that it is padded with.",
            location,
            f"use {argument}: hide masked keys from every query before the softmax, in each attention (and average "
            "over real tokens only).",
        )
    elif amount.is_visible:
        location, _ = _locate(subject, amount, real.ids.shape[1])
        yield finding_at(
            "padding",
            "warning",
            f"The amount of padding changes the result although {argument} masks it: {PADS} more masked positions "
            f"change the output at the real ones by {amount.moved:.2g} (replacing a real token: "
            f"{amount.reference:.2g}). Usual cause: an average over all positions that counts the padding.",
            location,
            "average over real tokens only: (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), and number "
            "positions from the first real token.",
        )


def _whole_mask_moves(subject: ModelUnderTest) -> float | None:
    """Return how much a mask that marks every token as real changes the output; None if it does not."""
    argument, inputs = subject.contract.mask_argument, subject.inputs()
    if argument is None or argument in subject.contract.required_masks:
        return None
    bare = subject.logits(inputs)
    masked = subject.logits(replace(inputs, mask=torch.ones_like(inputs.ids)))
    moved = float((masked - bare).abs().max())
    return moved if not moved <= RELATIVE_TOLERANCE * float(bare.abs().max()) else None


def _moved_by_whole_mask(subject: ModelUnderTest, moved: float) -> Finding:
    argument = subject.contract.mask_argument
    return finding_at(
        "padding",
        "error",
        f"{argument} is applied wrongly: a mask of ones, which marks every token as real, changes the output by "
        f"{moved:.2g} compared with no mask. It should change nothing; it hides or shifts real tokens.",
        subject.locator.forward(),
        f"hide the positions where {argument} is 0 and no others: {argument} == 0 where True hides.",
    )


def _with_gap(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a decoder that uses its mask hides masked tokens from all later ones."""
    inputs = subject.inputs()
    start = inputs.ids.shape[1] // 3
    mask = torch.ones_like(inputs.ids)
    mask[:, start : start + PADS] = 0
    first = replace(inputs, mask=mask)
    ids = inputs.ids.clone()
    ids[:, start : start + PADS] = subject.tokens(1, PADS, seed=21)
    later = slice(start + PADS, None)
    bare, base = subject.logits(inputs)[:, later], subject.logits(first)[:, later]
    moved = float((subject.logits(replace(first, ids=ids))[:, later] - base).abs().max())
    mask_effect, scale = float((base - bare).abs().max()), float(bare.abs().max())
    record = subject.traced(first)
    # A recurrence passes masked tokens on by design; attention does not.
    records = attention_records(record, subject.lengths)
    looked_at = min((float(item.weights[:, later, start : start + PADS].max()) for item in records), default=0.0)
    if looked_at > SMALLEST_WEIGHT and min(mask_effect, moved) > RELATIVE_TOLERANCE * scale:
        argument = subject.contract.mask_argument
        yield finding_at(
            "padding",
            "warning",
            f"The padding is visible although {argument} masks it: other tokens at {PADS} masked positions change the "
            f"output at later ones by {moved:.2g}. The mask has an effect (it changes the output by "
            f"{mask_effect:.2g}), but does not hide what it marks.",
            subject.locator.forward(),
            f"use {argument} to hide keys from every query before the softmax, along the last axis.",
        )


def _inverted(subject: ModelUnderTest) -> Finding:
    return finding_at(
        "padding",
        "warning",
        f"{subject.contract.mask_argument} means the opposite of its name: the model hides the positions marked 1 and "
        "attends to those marked 0. By convention 1 marks real tokens; with such a mask the model would see nothing "
        "but padding. Foundry inverts the mask.",
        subject.locator.forward(),
        "hide the positions where the mask is 0: key_padding_mask = attention_mask == 0.",
    )


def _without_mask(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a model without a mask argument that compares ids with the padding id hides padding."""
    pad = subject.contract.pad_token_id
    comparison = _comparison_with_padding(subject)
    if pad is None or comparison is None:
        return
    real, padded = _padded(subject)
    padded = replace(padded, mask=None, ids=torch.cat([padded.ids[:, :-PADS], torch.full((1, PADS), pad)], dim=1))
    amount = _trial(subject, replace(real, mask=None), padded, real.ids.shape[1])
    if amount.is_visible:
        yield finding_at(
            "padding",
            "warning",
            f"Padding is visible although the code detects it: {PADS} more padding tokens (id {pad}) change the "
            f"output at the real ones by {amount.moved:.2g} (replacing a real token: {amount.reference:.2g}).",
            comparison,
            "pass the mask that is created here to every attention, so that padded keys are hidden.",
        )


def _padded(subject: ModelUnderTest) -> tuple[Inputs, Inputs]:
    """Return inputs, and the same inputs with masked positions on their right."""
    whole = subject.inputs()
    ids = subject.contract.end_with_eos(whole.ids[:, :-PADS])
    padded = torch.cat([ids, subject.tokens(1, PADS, seed=20)], dim=1)
    mask = torch.ones_like(padded)
    mask[:, -PADS:] = 0
    return Inputs(ids, torch.ones_like(ids), whole.decoder_ids), Inputs(padded, mask, whole.decoder_ids)


def _trial(subject: ModelUnderTest, first: Inputs, second: Inputs, real: int) -> _Trial:
    base, moved = subject.logits(first), subject.logits(second)
    reference = subject.logits(replace(first, ids=replace_token(subject, first.ids, 0)))
    scale = float(base.abs().max())
    if subject.labels_positions and subject.kind != "encoder-decoder":
        base, moved, reference = base[:, :real], moved[:, :real], reference[:, :real]
    return _Trial(first, second, float((moved - base).abs().max()), float((reference - base).abs().max()), scale)


def _knows_padding_by_id(subject: ModelUnderTest, real: Inputs, padded: Inputs) -> bool:
    """Return whether a classifier finds its last real token by the padding id instead of the mask, as decoders do."""
    pad = subject.contract.pad_token_id
    if pad is None or (subject.kind != "decoder-only" and subject.labels_positions):
        return False
    ids = padded.ids.clone()
    ids[:, -PADS:] = pad
    return not _trial(subject, real, replace(padded, ids=ids), real.ids.shape[1]).is_visible


def _mixes_neighbors(subject: ModelUnderTest, trial: _Trial, location: Location) -> bool:
    """Return whether padding has an effect through a convolution or recurrence while every attention hides it."""
    record = subject.traced(trial.first)
    hides = all(
        float(item.weights[..., -PADS:].max()) <= SMALLEST_WEIGHT for item in attention_records(record, subject.lengths)
    )
    inside = [call.name for call in record.operations if call.module.startswith(location.module or "")]
    return hides and any(name.startswith(("conv", "gru", "lstm", "rnn")) for name in inside)


def _seen_across_border(location: Location, reach: int) -> Finding:
    """Report padding that a convolution or recurrence mixes with its neighbors, which most libraries accept."""
    return finding_at(
        "padding",
        "info",
        f"The padding is visible to the last {reach} real positions: an operation that mixes neighbors, such as a "
        "convolution, runs across the border. The attention itself hides it.",
        location,
        "set masked positions to zero before that operation, if the ends of texts matter.",
    )


def _locate(subject: ModelUnderTest, trial: _Trial, real: int) -> tuple[Location, int | None]:
    """Return the location where padding first has an effect, and how many of the last real positions see it there."""
    length = trial.second.ids.shape[1]
    reached: list[int] = []

    def differs(left: Tensor, right: Tensor) -> bool:
        rows, others = by_position(left, length), by_position(right, length)
        if rows is not None and others is not None:
            left, right = rows[:real], others[:real]
        elif length in left.shape:
            return False  # Attention maps contain padding by design, on an unknown axis.
        scale = float(left.nan_to_num().abs().max())
        differ = ~torch.isclose(left, right, rtol=0, atol=1e-4 * scale, equal_nan=True)
        if rows is not None and bool(differ.any()):
            reached.append(real - int(differ.any(dim=-1).nonzero()[0]))
        return bool(differ.any())

    location = None
    if trial.first.ids.shape == trial.second.ids.shape:
        location, _ = locate_change(subject, trial.first, trial.second, differs)
    return location or _pooling(subject) or subject.locator.forward(), reached[0] if reached else None


def _pooling(subject: ModelUnderTest) -> Location | None:
    """Return the location of the last operation that averages or sums positions."""
    names = ("mean", "sum", "max", "amax")
    calls = [call for call in subject.trace.operations if call.name in names and call.line is not None]
    return subject.locator.at(calls[-1].line, calls[-1].module) if calls else None


def _comparison_with_padding(subject: ModelUnderTest) -> Location | None:
    file = subject.source.class_file(type(subject.model))
    for node in ast.walk(file.tree) if file is not None else ():
        if isinstance(node, ast.Compare) and "pad" in ast.unparse(node).lower() and not _is_none_test(node):
            return subject.locator.at(SourceLine(file.path, node.lineno)) if file is not None else None
    return None


def _is_none_test(node: ast.Compare) -> bool:
    return any(isinstance(operator, ast.Is | ast.IsNot) for operator in node.ops)
