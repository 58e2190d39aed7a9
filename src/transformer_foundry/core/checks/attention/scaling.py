"""Check that attention scores are scaled by the width of the heads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.weights import SOFTMAX
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["check_scaling"]

SMALLEST_WIDTH = 4
# T5 does not divide scores; its queries are initialized smaller by sqrt(width) instead.
COMPENSATED = 0.6
# Scores beyond this are masked.
LARGEST_SCORE = 1e3
EXACT = 1e-4
TOLERANCE = 0.01
# Some designs divide by the width itself instead of its root; no known design divides by four times that.
SMALLEST_FACTOR = 0.25
OWN_SCALE = re.compile(
    r"attention_multiplier|(attn|attention|query|qk|softmax|logit).*scal|scale_attn|scalar|mup|inverse_layer"
)


def check_scaling(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that scores are divided by the square root of the head width, or the design compensates for it."""
    record = subject.traced(subject.inputs())
    for index, call in enumerate(record.operations):
        scaled = _scaled(record.operations[:index], call)
        if scaled is None or scaled.width < SMALLEST_WIDTH or _is_normalized(scaled.query):
            continue
        how = _fault(scaled, record.operations[:index], call, bool(_stated(subject)))
        if how is not None:
            yield _badly_scaled(subject, call, how, scaled.width)
            return


@dataclass(frozen=True)
class _Scaled:
    """Queries and keys of an attention, and the factor of their products."""

    query: Tensor
    key: Tensor
    factor: float

    @property
    def width(self) -> int:
        return self.query.shape[-1]


def _scaled(before: list[TracedCall], call: TracedCall) -> _Scaled | None:
    if call.name == "scaled_dot_product_attention" and len(call.inputs) >= 3:
        query, key = call.inputs[0].float(), call.inputs[1].float()
        scale = call.arguments.get("scale")
        return None if scale is None else _Scaled(query, key, float(scale))
    if call.name not in SOFTMAX or call.output.ndim < 3 or not call.inputs:
        return None
    product = _product_before(before, call)
    factor = None if product is None else _factor(product.output, call.inputs[0])
    if product is None or factor is None:
        return None
    return _Scaled(product.inputs[0].float(), product.inputs[1].float(), factor)


def _fault(scaled: _Scaled, before: list[TracedCall], call: TracedCall, is_stated: bool) -> str | None:
    """Return what is wrong with the scale; None if nothing is."""
    factor = scaled.factor
    if factor > 1 + TOLERANCE:
        return f"multiplied by {factor:.3g}"
    if 0 < factor < SMALLEST_FACTOR / scaled.width and not is_stated:
        return f"divided by {1 / factor:.3g}"
    is_bare = abs(factor - 1) < EXACT and not is_stated and not _scaled_before(before, call.module)
    if is_bare and float(scaled.query.std()) > COMPENSATED * float(scaled.key.std()):
        return "not divided by anything"
    return None


def _stated(subject: ModelUnderTest) -> list[str]:
    """Return the settings that declare another scale."""
    return [key for key, value in subject.config.items() if OWN_SCALE.search(str(key)) and value not in (None, False)]


def _product_before(calls: list[TracedCall], softmax: TracedCall) -> TracedCall | None:
    """Return the matrix product of queries and keys that is the input of the softmax."""
    for call in reversed(calls):
        if call.module != softmax.module:
            return None
        if call.name in ("matmul", "__matmul__", "bmm", "einsum", "baddbmm"):
            fits = call.output.shape == softmax.inputs[0].shape and len(call.inputs) == 2
            return call if fits else None
    return None


def _factor(product: Tensor, scores: Tensor) -> float | None:
    """Return the constant factor between products and scores; None if something was added."""
    product, scores = product.float(), scores.float()
    valid = torch.isfinite(scores) & (scores.abs() < LARGEST_SCORE) & (product.abs() > EXACT * product.abs().max())
    if not valid.any():
        return None
    ratio = scores[valid] / product[valid]
    middle = float(ratio.median())
    return middle if float((ratio - middle).abs().max()) <= 1e-3 * max(1e-6, abs(middle)) else None


def _is_normalized(query: Tensor) -> bool:
    norms = query.norm(dim=-1)
    return bool(norms.std() < 1e-3 * norms.mean())


def _scaled_before(calls: list[TracedCall], module: str) -> bool:
    """Return whether queries or keys were scaled by a number, or converted to float32 because they are not."""
    for call in reversed(calls):
        if call.module != module:
            continue
        by_number = len(call.inputs) < 2 or any(tensor.numel() == 1 for tensor in call.inputs)
        if call.name in ("mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "div_") and by_number:
            return True
        if call.name in ("float",) or (call.name == "to" and torch.float32 in call.arguments.values()):
            return True
    return False


def _badly_scaled(subject: ModelUnderTest, call: TracedCall, how: str, width: int) -> Finding:
    return finding_at(
        "attention scale",
        "warning",
        f"The scores of the attention are {how} before the softmax, where sqrt({width}) = {width**0.5:.2f} divides "
        f"them in a standard transformer. {_consequence(how)}",
        subject.locator.at(call.line, call.module),
        "divide the scores by the square root of the head width: q @ k.transpose(-2, -1) / math.sqrt(d).",
    )


def _consequence(how: str) -> str:
    if how.startswith("divided"):
        return "The remaining scores are close to zero: every position attends to all others evenly, and learns slowly."
    return "They grow with the width of the head, so the softmax saturates and attention stops learning."
