"""Attention itself: the softmax runs over the keys, weights are neither one-hot nor blind, scores are scaled."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention import AttentionRecord, attention_records
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.subject import Subject
from transformer_foundry.core.checks.tracing import Step, run_traced

__all__ = ["check_attention", "check_scale", "measure_entropy"]

EXACT = 1e-4
# Mean entropy of attention at initialisation, as a share of the largest possible, below which heads are one-hot.
SATURATED = 0.05
ENTROPY_LENGTH = 32
SOFTMAX = ("softmax", "_softmax")
SMALLEST_WIDTH = 4
# T5 does not divide scores; its queries start smaller by sqrt(width) instead.
COMPENSATED = 0.6
# Scores beyond this are masked ones.
LARGEST_SCORE = 1e3


def check_attention(subject: Subject) -> Iterator[Finding]:
    """The weights that multiply the values sum to 1 over the keys."""
    steps = subject.trace.operations
    for index, step in enumerate(steps):
        if step.name not in ("softmax", "_softmax") or step.output.ndim < 3:
            continue
        if step.output.shape[-2:] == (subject.length, subject.length) and _feeds_values(step, steps[index + 1 :]):
            sums = step.output.float().sum(dim=-1)
            if not torch.allclose(sums, torch.ones_like(sums), atol=EXACT):
                yield _wrong_axis(subject, step, sums)
                return


def measure_entropy(subject: Subject) -> Iterator[Finding]:
    """Attention at initialisation is spread out: entropy per head, and heads that look at one key only."""
    length = min(ENTROPY_LENGTH, subject.contract.max_length or ENTROPY_LENGTH)
    record = run_traced(subject.model, subject.source, lambda: subject.logits(subject.inputs(length=length)))
    records = [
        item
        for item in attention_records(record, {length, subject.inputs(length=length).ids.shape[1]})
        if item.over_keys and item.weights.shape[-1] > 1
    ]
    shares = [_entropy_shares(item.weights) for item in records]
    subject.evidence["entropy"] = [(item.module, share) for item, share in zip(records, shares, strict=True)]
    for item, share in zip(records, shares, strict=True):
        if len(share) and max(share) < SATURATED:
            yield _saturated(subject, item, share)
            return


def _feeds_values(step: Step, later: list[Step]) -> bool:
    """Whether the result is multiplied with values over its last axis: then that axis is the keys'."""
    pointer = step.raw.data_ptr()
    for other in later:
        if not any(tensor.data_ptr() == pointer for tensor in other.inputs):
            continue
        if other.name in ("matmul", "__matmul__", "bmm") and other.inputs[0].data_ptr() == pointer:
            return True
        if other.name == "einsum":
            return _einsum_over_last(str(other.arguments.get("0", "")))
        if other.name in ("dropout", "to", "type_as", "float", "contiguous", "masked_fill"):
            pointer = other.raw.data_ptr()
    return False


def _einsum_over_last(equation: str) -> bool:
    left, _, result = equation.replace(" ", "").partition("->")
    first = left.split(",")[0]
    return bool(first) and first[-1] not in result


def _wrong_axis(subject: Subject, step: Step, sums: Tensor) -> Finding:
    place = subject.places.at(step.line, step.module or None)
    return Finding(
        "attention",
        "error",
        f"The softmax of the attention runs over the wrong axis: its weights sum to {float(sums.min()):.2f} to "
        f"{float(sums.max()):.2f} over the keys, and to 1 over another axis. Positions compete for being looked at, "
        "instead of each one dividing its attention among the keys.",
        str(place),
        place.lead("take the softmax over the last axis, the keys: softmax(scores, dim=-1)."),
    )


def _entropy_shares(weights: Tensor) -> list[float]:
    """Return, for each sample and head, the mean entropy of rows as a share of the largest possible, ln(visible)."""
    visible = (weights > 1e-9).sum(dim=-1)
    entropy = -(weights.clamp(min=1e-12).log() * weights).sum(dim=-1)
    counted = visible > 1
    share = torch.where(counted, entropy / visible.clamp(min=2).float().log(), torch.zeros_like(entropy))
    total = counted.sum(dim=-1).clamp(min=1)
    return (share.sum(dim=-1) / total).tolist()


def _saturated(subject: Subject, item: AttentionRecord, share: list[float]) -> Finding:
    place = subject.places.module(item.module, item.line)
    return Finding(
        "attention entropy",
        "warning",
        "Attention is saturated before training: every head looks at one key only (entropy at most "
        f"{max(share):.1%} of "
        "the largest possible). The softmax has no gradient there; heads cannot learn where to look.",
        str(place),
        place.lead("divide the scores by sqrt(head width), and initialise queries and keys smaller (std=0.02)."),
    )


def check_scale(subject: Subject) -> Iterator[Finding]:
    """Scores are divided by the square root of the head's width, somewhere, or the design makes up for it."""
    with torch.no_grad():
        record = run_traced(subject.model, subject.source, lambda: subject.logits(subject.inputs()))
    steps = record.operations
    for index, step in enumerate(steps):
        if step.name not in SOFTMAX or step.output.ndim < 3 or not step.inputs:
            continue
        product = _product_before(steps[:index], step)
        if product is None:
            continue
        factor = _factor(product.output, step.inputs[0])
        query, key = product.inputs[0].float(), product.inputs[1].float()
        width = query.shape[-1]
        if factor is None or width < SMALLEST_WIDTH or _is_normalised(query):
            continue
        if factor > 1.01:
            yield _badly_scaled(subject, step, f"multiplied by {factor:.3g}", width)
            return
        is_bare = abs(factor - 1) < EXACT and not _scaled_before(steps[:index], step.module)
        if is_bare and float(query.std()) > COMPENSATED * float(key.std()):
            yield _badly_scaled(subject, step, "not divided by anything", width)
            return


def _product_before(steps: list[Step], softmax: Step) -> Step | None:
    """Return the matrix product of queries and keys that the softmax is taken of."""
    for step in reversed(steps):
        if step.module != softmax.module:
            return None
        if step.name in ("matmul", "__matmul__", "bmm", "einsum", "baddbmm"):
            fits = step.output.shape == softmax.inputs[0].shape and len(step.inputs) == 2
            return step if fits else None
    return None


def _factor(product: Tensor, scores: Tensor) -> float | None:
    """Return the constant by which products were multiplied to become scores; None when something was added."""
    product, scores = product.float(), scores.float()
    valid = torch.isfinite(scores) & (scores.abs() < LARGEST_SCORE) & (product.abs() > EXACT * product.abs().max())
    if not valid.any():
        return None
    ratio = scores[valid] / product[valid]
    middle = float(ratio.median())
    return middle if float((ratio - middle).abs().max()) <= 1e-3 * max(1e-6, abs(middle)) else None


def _is_normalised(query: Tensor) -> bool:
    norms = query.norm(dim=-1)
    return bool(norms.std() < 1e-3 * norms.mean())


def _scaled_before(steps: list[Step], module: str) -> bool:
    """Whether queries or keys were scaled by a number, or converted to float32 on purpose because they are not."""
    for step in reversed(steps):
        if step.module != module:
            continue
        by_number = len(step.inputs) < 2 or any(tensor.numel() == 1 for tensor in step.inputs)
        if step.name in ("mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "div_") and by_number:
            return True
        if step.name in ("float",) or (step.name == "to" and torch.float32 in step.arguments.values()):
            return True
    return False


def _badly_scaled(subject: Subject, step: Step, how: str, width: int) -> Finding:
    place = subject.places.at(step.line, step.module or None)
    return Finding(
        "attention scale",
        "warning",
        f"The scores of the attention are {how} before the softmax, where sqrt({width}) = {width**0.5:.2f} divides "
        "them "
        "in a standard transformer. They grow with the width of the head, the softmax saturates, and attention stops "
        "learning.",
        str(place),
        place.lead("divide the scores by the square root of the head's width: q @ k.transpose(-2, -1) / math.sqrt(d)."),
    )
