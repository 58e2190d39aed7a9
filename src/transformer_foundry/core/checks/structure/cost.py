"""Report the cost of a model: parameters, operations, memory and the time of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, declared_length
from transformer_foundry.core.checks.report.report import Finding

__all__ = ["Cost", "check_cost", "cost_table"]

BYTES = 4
# Training with AdamW in float32: the weight, its gradient, two moments.
COPIES_IN_TRAINING = 4
LONGEST = 256
RUNS = 3


@dataclass(frozen=True)
class Cost:
    """Cost of one part of a model.

    Attributes:
        part: Name of the part, a child of the model.
        parameters: Number of weights, tied ones counted once.
        operations: Multiply-adds for one token, without attention's own products.
        memory_mib: Weights, gradients and optimizer state of AdamW in float32.
    """

    part: str
    parameters: int
    operations: int
    memory_mib: float


def cost_table(model: nn.Module) -> list[Cost]:
    """Return the cost of each child of ``model``, and of the parameters it holds itself, in their order."""
    seen: set[int] = set()
    table = []
    parts = [(name, list(child.modules())) for name, child in model.named_children()] + [("(itself)", [model])]
    for name, modules in parts:
        own = [item for module in modules for item in module.parameters(recurse=False)]
        fresh = {id(item): item.numel() for item in own if id(item) not in seen}
        seen |= set(fresh)
        operations = sum(_operations(module) for module in modules if module is not model)
        count = sum(fresh.values())
        if count or operations:
            table.append(Cost(name, count, operations, count * BYTES * COPIES_IN_TRAINING / 2**20))
    return table


def check_cost(subject: ModelUnderTest) -> Iterator[Finding]:
    """Say in one line what the model costs; never a problem."""
    table = cost_table(subject.model)
    length = min(declared_length(subject), LONGEST)
    inputs = subject.inputs(length=length)
    subject.logits(inputs)
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subject.logits(inputs)
        seconds.append(time.perf_counter() - started)
    largest = max(table, key=lambda cost: cost.parameters, default=None)
    total = sum(cost.parameters for cost in table)
    operations = 2 * sum(cost.operations for cost in table)
    memory = sum(cost.memory_mib for cost in table)
    most = f"; most of it in {largest.part} ({largest.parameters / max(1, total):.0%})" if largest else ""
    yield Finding(
        "costs",
        "info",
        f"{total:,} parameters{most}. Weights, gradients and optimizer take {memory:,.0f} MiB in training, besides "
        f"activations; a token takes about {operations:,} floating point operations, a text of {length} tokens "
        f"{1000 * min(seconds):.1f} ms here.",
    )


def _operations(module: nn.Module) -> int:
    if isinstance(module, nn.Embedding):
        return 0
    return sum(item.numel() for item in module.parameters(recurse=False) if item.ndim >= 2)
