"""The model runs in the number formats that training uses: bfloat16 and float16, by autocast."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from transformer_foundry.core.checks.explanations import describe, explain, root_cause
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.subject import Subject

__all__ = ["check_precision"]

# bfloat16 has 8 bits: results differ by a few percent of their spread; beyond this share something breaks.
LARGEST_DIFFERENCE = 0.5


def check_precision(subject: Subject) -> Iterator[Finding]:
    """Under autocast the logits stay finite and near those of float32."""
    inputs = subject.inputs(batch=2)
    exact = subject.logits(inputs)
    for dtype, severity in ((torch.bfloat16, "warning"), (torch.float16, "info")):
        name = str(dtype).removeprefix("torch.")
        try:
            with torch.autocast("cpu", dtype=dtype):
                rough = subject.logits(inputs)
        # The model's code is somebody else's and may raise anything; what it raises is the finding.
        except Exception as err:
            yield _failure(subject, err, name, severity)
            continue
        share = float((rough - exact).abs().max() / exact.std().clamp(min=1e-6))
        if not torch.isfinite(rough).all() or share > LARGEST_DIFFERENCE:
            what = (
                "are NaN or infinite" if not torch.isfinite(rough).all() else f"differ by {share:.0%} of their spread"
            )
            place = subject.places.forward()
            yield Finding(
                "precision",
                severity,
                f"In {name} the logits {what}. Training on a GPU uses it to be faster and smaller; here it breaks.",
                str(place),
                "Mask with torch.finfo(scores.dtype).min, and compute norms and softmax in float32.",
            )


def _failure(subject: Subject, error: Exception, name: str, severity: str) -> Finding:
    cause = root_cause(error)
    place = subject.places.at(subject.source.raised_at(error))
    return Finding(
        "precision",
        severity,
        f"The model fails in {name}, which training on a GPU uses to be faster and smaller. {explain(cause).meaning} "
        f"The error: {describe(cause)}",
        str(place),
        place.lead("use torch.finfo(x.dtype).min for masks, and convert with .to(x.dtype) what meets x."),
    )
