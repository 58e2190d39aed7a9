"""Report the cost of a model: parameters, operations, memory and the time of a forward pass."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from torch import nn

from transformer_foundry.core.checks.probing.finding import Finding
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, declared_length

__all__ = ["check_cost"]

# Training with AdamW in float32: the weight, its gradient and two moments, 4 bytes each.
TRAINING_BYTES_PER_PARAMETER = 4 * 4
LONGEST = 256
RUNS = 3


def check_cost(subject: ModelUnderTest) -> Iterator[Finding]:
    """Report parameters, memory, operations and time in one finding, which is never a problem."""
    length = min(declared_length(subject), LONGEST)
    inputs = subject.inputs(length=length)
    subject.logits(inputs)
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subject.logits(inputs)
        seconds.append(time.perf_counter() - started)
    counts = _parameters_by_part(subject.model)
    total = counts.total()
    most = "".join(f"; most of it in {part} ({count / max(1, total):.0%})" for part, count in counts.most_common(1))
    # A multiply-add is two operations; those of attention's own products are not included.
    operations = 2 * sum(_multiply_adds(module) for child in subject.model.children() for module in child.modules())
    yield Finding(
        "costs",
        "info",
        f"{total:,} parameters{most}. Weights, gradients and optimizer take "
        f"{total * TRAINING_BYTES_PER_PARAMETER / 2**20:,.0f} MiB in training, besides activations; a token takes "
        f"about {operations:,} floating point operations, a text of {length} tokens {1000 * min(seconds):.1f} ms here.",
    )


def _parameters_by_part(model: nn.Module) -> Counter[str]:
    """Return the number of weights of each child and of the model itself; tied ones are counted once."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part, dot, _ = name.partition(".")
        counts[part if dot else "(itself)"] += parameter.numel()
    return counts


def _multiply_adds(module: nn.Module) -> int:
    if isinstance(module, nn.Embedding):
        return 0
    return sum(item.numel() for item in module.parameters(recurse=False) if item.ndim >= 2)
