"""The model runs in the number formats that training uses: bfloat16 and float16, by autocast."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.location import finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.report.report import Finding
from transformer_foundry.core.models.error_meanings import describe, explain, root_cause

__all__ = ["check_mixed_precision"]

# bfloat16 has 8 bits: results differ by a few percent of their spread; beyond this share something breaks.
LARGEST_DIFFERENCE = 0.5


def check_mixed_precision(subject: ModelUnderTest) -> Iterator[Finding]:
    """Under autocast the logits stay finite and near those of float32."""
    inputs = subject.inputs(batch=2)
    exact = subject.logits(inputs)
    failures: dict[str, list[tuple[str, Exception]]] = {}
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        try:
            with torch.autocast("cpu", dtype=dtype):
                rough = subject.logits(inputs)
        except Exception as err:  # somebody else's code may raise anything; what it raises is the finding
            failures.setdefault(str(subject.source.raised_at(err)), []).append((name, err))
            continue
        share = float((rough - exact).abs().max() / exact.std().clamp(min=1e-6))
        if not torch.isfinite(rough).all() or share > LARGEST_DIFFERENCE:
            yield _deviation(subject, name, share, rough)
    for group in failures.values():
        yield _failure(subject, group)


def _deviation(subject: ModelUnderTest, name: str, share: float, rough: Tensor) -> Finding:
    finite = bool(torch.isfinite(rough).all())
    what = f"differ by {share:.0%} of their spread" if finite else "are NaN or infinite"
    return finding_at(
        "precision",
        # A GPU computes softmax and norms in float32 where the CPU, which tests it here, computes in float16.
        "info" if name == "float16" else "warning",
        f"In {name} the logits {what}. Training on a GPU uses it to be faster and smaller; here it breaks.",
        subject.locator.forward(),
        "Mask with torch.finfo(scores.dtype).min, and compute norms and softmax in float32.",
    )


def _failure(subject: ModelUnderTest, group: list[tuple[str, Exception]]) -> Finding:
    names, error = [name for name, _ in group], group[0][1]
    cause = root_cause(error)
    # float16 on the CPU lacks operations that a GPU has; a number too large for it, or two types, fail on both.
    on_both = "bfloat16" in names or re.search(r"overflow|same .*type|dtypes? match|expected .*type", str(cause))
    return finding_at(
        "precision",
        "warning" if on_both else "info",
        f"The model fails in {' and in '.join(names)}, which training on a GPU uses to be faster and smaller. "
        f"{explain(cause).meaning} The error: {describe(cause)}",
        subject.locator.raised(error),
        "use torch.finfo(x.dtype).min for masks, and convert with .to(x.dtype) what meets x.",
    )
