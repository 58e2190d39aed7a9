"""Check that the model runs under autocast with bfloat16 and float16."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.models.error_meanings import describe, explain, root_cause

__all__ = ["check_mixed_precision"]

# bfloat16 has 8 bits, so results differ by a few percent of their spread; more than this share is a fault.
LARGEST_DIFFERENCE = 0.5


def check_mixed_precision(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that logits under autocast are finite and near those of float32."""
    inputs = subject.inputs(batch=2)
    exact = subject.logits(inputs)
    failures: dict[str, list[tuple[str, Exception]]] = {}
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        try:
            with torch.autocast("cpu", dtype=dtype):
                reduced = subject.logits(inputs)
        except Exception as err:  # The model's code may raise anything; the exception is the finding.
            failures.setdefault(str(subject.source.raised_at(err)), []).append((name, err))
            continue
        share = float((reduced - exact).abs().max() / exact.std().clamp(min=1e-6))
        if not torch.isfinite(reduced).all() or share > LARGEST_DIFFERENCE:
            yield _deviation(subject, name, share, reduced)
    for group in failures.values():
        yield _failure(subject, group)


def _deviation(subject: ModelUnderTest, name: str, share: float, reduced: Tensor) -> Finding:
    finite = bool(torch.isfinite(reduced).all())
    what = f"differ by {share:.0%} of their spread" if finite else "are NaN or infinite"
    return finding_at(
        "precision",
        # The CPU computes softmax and norms in float16, a GPU computes them in float32.
        "info" if name == "float16" else "warning",
        f"In {name} the logits {what}. Training on a GPU uses it to save time and memory; this model fails with it.",
        subject.locator.forward(),
        "mask with torch.finfo(scores.dtype).min, and compute norms and softmax in float32.",
    )


def _failure(subject: ModelUnderTest, group: list[tuple[str, Exception]]) -> Finding:
    names, error = [name for name, _ in group], group[0][1]
    cause = root_cause(error)
    # float16 on the CPU lacks operations that a GPU has; a number too large for it, or two types, fail on both.
    on_both = "bfloat16" in names or re.search(r"overflow|same .*type|dtypes? match|expected .*type", str(cause))
    return finding_at(
        "precision",
        "warning" if on_both else "info",
        f"The model fails in {' and in '.join(names)}, which training on a GPU uses to save time and memory. "
        f"{explain(cause).meaning} The error: {describe(cause)}",
        subject.locator.raised(error),
        "use torch.finfo(x.dtype).min for masks, and convert other tensors with .to(x.dtype).",
    )
