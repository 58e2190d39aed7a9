"""Check how strongly the output reacts to a small change of the embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest

__all__ = ["check_sensitivity"]

NOISE = 1e-3
# Ratio of the relative change of the logits to that of the embeddings; beyond it rounding alone changes the output.
LARGEST_GAIN = 1e3


def check_sensitivity(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a relative change of 0.001 of the embeddings changes the logits less than a thousand times as much."""
    table = _token_table(subject)
    if table is None:
        return
    path, module = table
    inputs = subject.inputs(batch=2)
    base = subject.logits(inputs)
    generator = torch.Generator().manual_seed(8)

    def disturb(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        noise = torch.randn(output.shape, generator=generator).to(output)
        return output + NOISE * output.std() * noise

    handle = module.register_forward_hook(disturb)
    try:
        moved = subject.logits(inputs)
    finally:
        handle.remove()
    centered = base - base.mean(dim=-1, keepdim=True)
    gain = float((moved - base).norm() / centered.norm().clamp(min=1e-12)) / NOISE
    if gain > LARGEST_GAIN:
        yield finding_at(
            "sensitivity",
            "warning",
            f"The output is unstable: a change of 0.1 % of the embeddings changes the logits by {gain * NOISE:.0%} of "
            "their spread. Rounding alone then determines the output, and training diverges.",
            subject.locator.module(path),
            "use a norm in every block, and initialize the weights smaller (std=0.02).",
        )


def _token_table(subject: ModelUnderTest) -> tuple[str, nn.Module] | None:
    vocab_size = subject.contract.vocab_size
    return next((item for item in subject.submodules(nn.Embedding) if item[1].num_embeddings >= vocab_size), None)
