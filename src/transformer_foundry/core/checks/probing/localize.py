"""Find where an effect arises: the first module whose result shows it although its inputs do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor

from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import Trace, TracedCall

__all__ = ["attention_call", "first_changed_operation", "locate_change"]

ATTENTION_OPERATIONS = ("scaled_dot_product_attention", "multi_head_attention_forward", "softmax", "_softmax")


def locate_change(
    subject: ModelUnderTest,
    first: Inputs,
    second: Inputs,
    differs: Callable[[Tensor, Tensor], bool],
    *,
    training: bool = False,
    part: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> tuple[Location | None, Trace]:
    """Return the location where two runs begin to differ, and the trace of the second run.

    Args:
        subject: The model under test.
        first: Inputs of one run.
        second: Inputs of the other run.
        differs: Whether two results of a module differ in the way that matters; called with floating point tensors of
            one shape.
        training: Whether the model runs in training mode.
        part: Returns the part of a result to compare; the whole result by default.
    """

    def compare(left: Tensor, right: Tensor) -> bool:
        return _differ(part(left), part(right), differs)

    one, two = subject.traced(first, training=training), subject.traced(second, training=training)
    for left, right in _matching_modules(one, two):
        if not compare(left.output, right.output):
            continue
        if any(compare(a, b) for a, b in zip(left.inputs, right.inputs, strict=False)):
            return _between(subject, one, two, subject.locator.parent_of(right.module), compare, right), two
        return _inside(subject, right.module, two, right.line), two
    return None, two


def first_changed_operation(
    first: Trace, second: Trace, differs: Callable[[Tensor, Tensor], bool]
) -> TracedCall | None:
    """Return the first operation whose result differs between two traces, None when none does."""
    for left, right in itertools.zip_longest(first.operations, second.operations):
        if left is None or right is None or left.name != right.name or left.module != right.module:
            return None
        if _differ(left.output, right.output, differs):
            return right
    return None


def attention_call(trace: Trace, module: str, *, below: bool = True) -> TracedCall | None:
    """Return the first attention that ``module`` runs, or with ``below`` a module inside it; None when it runs none."""
    calls = [call for call in trace.operations if call.name in ATTENTION_OPERATIONS and call.output.ndim >= 3]
    own = [call for call in calls if call.module == module]
    inner = [call for call in calls if below and (not module or call.module.startswith(f"{module}."))]
    return next(iter(own + inner), None)


def _matching_modules(one: Trace, two: Trace) -> list[tuple[TracedCall, TracedCall]]:
    pairs = []
    for left, right in zip(one.modules, two.modules, strict=False):
        if left.name != right.name or left.module != right.module:
            break
        pairs.append((left, right))
    return pairs


def _between(
    subject: ModelUnderTest,
    one: Trace,
    two: Trace,
    parent: str,
    compare: Callable[[Tensor, Tensor], bool],
    child: TracedCall,
) -> Location:
    """Return the line of ``parent`` that causes the difference, which the inputs of ``child`` show already."""
    own = attention_call(two, parent, below=False)
    if own is not None and own.line is not None:
        return subject.locator.at(own.line, parent)
    for left, right in zip(one.operations, two.operations, strict=False):
        if left.name != right.name or left.module != right.module:
            break
        if right.module != parent or right.line is None or not compare(left.output, right.output):
            continue
        if not any(compare(a, b) for a, b in zip(left.inputs, right.inputs, strict=False)):
            return subject.locator.at(right.line, parent)
    return subject.locator.at(child.line, parent)


def _inside(subject: ModelUnderTest, module: str, trace: Trace, line: SourceLine | None = None) -> Location:
    attention = attention_call(trace, module)
    if attention is not None and attention.line is not None:
        line = attention.line
    if line is None and module in subject.locator.modules:
        line = subject.source.class_line(type(subject.locator.modules[module]), "forward")
    return subject.locator.module(module, line)


def _differ(left: Tensor, right: Tensor, differs: Callable[[Tensor, Tensor], bool]) -> bool:
    return left.shape == right.shape and left.is_floating_point() and right.is_floating_point() and differs(left, right)
