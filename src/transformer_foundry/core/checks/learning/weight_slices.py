"""Check that every slice of a weight gets a gradient: a third of a fused projection, a head, half of a gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.learning.optional_calls import gradient_of_other_calls
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import (
    Inputs,
    ModelUnderTest,
    declared_length,
    generic_weights,
    loss_of_random_labels,
)
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["check_weight_slices"]

# Each batch has other weights and tokens: a unit that is off in all of them is not connected.
BATCHES = 3
SAMPLES = 6
LONGER = 40
# Relative to the largest gradient of the weight: rounding of sums that cancel.
SMALLEST_SHARE = 1e-9
# Slices in a row without a gradient: fewer may be units that no input turned on.
SHORTEST_RUN, SMALLEST_PART, LARGE_PART = 4, 1 / 16, 1 / 4
# Operations that take a part of a tensor; split and chunk return all parts.
NARROWING = frozenset({"__getitem__", "narrow", "select", "index_select"})
# Weights of which every batch uses a part only.
CONDITIONAL = ("expert", "moe")


def check_weight_slices(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that no block of rows or columns of a weight matrix is without a gradient from the loss."""
    if not subject.is_differentiable:
        return
    weights = {name: item for name, item in subject.model.named_parameters() if _is_matrix(name, item)}
    sizes: dict[tuple[str, int], Tensor] = {}
    for batch in range(BATCHES):
        with generic_weights(subject.model, seed=70 + batch), torch.enable_grad():
            loss = loss_of_random_labels(subject, _inputs(subject, batch), seed=batch)
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            for axis in range(gradient.ndim) if gradient is not None else ():
                size = gradient.abs().amax(dim=[other for other in range(gradient.ndim) if other != axis])
                known = sizes.get((name, axis))
                sizes[name, axis] = size if known is None else torch.maximum(known, size)
    for (name, axis), size in sizes.items():
        run = _longest_run(size)
        if run is None or _is_indexed(subject, name, axis, len(size)):
            continue
        if not _is_used_elsewhere(subject, name, axis, run):
            yield _unused(subject, name, axis, size, run)
            return


def _is_used_elsewhere(subject: ModelUnderTest, name: str, axis: int, run: tuple[int, int]) -> bool:
    """Return whether these slices get a gradient when optional inputs are given or special tokens divide the text."""
    weight = subject.model.get_parameter(name)
    with generic_weights(subject.model, seed=70):
        gradient = gradient_of_other_calls(subject, weight, _inputs(subject, 0))
    if gradient is None:
        return False
    found = gradient.narrow(axis, *run)
    return bool(found.max() > SMALLEST_SHARE * gradient.max())


def _inputs(subject: ModelUnderTest, batch: int) -> Inputs:
    """Return an ordinary batch, a longer one, and one with padding."""
    length = min(LONGER, declared_length(subject)) if batch == 1 else subject.length
    inputs = subject.inputs(batch=SAMPLES, length=length, seed=80 + batch)
    if batch == 2 and subject.contract.mask_argument is not None and inputs.ids.shape[1] > 4:
        mask = torch.ones_like(inputs.ids)
        mask[: SAMPLES // 2, -3:] = 0
        return replace(inputs, mask=mask)
    return inputs


def _is_matrix(name: str, weight: Tensor) -> bool:
    is_conditional = any(word in name.lower() for word in CONDITIONAL)
    return weight.requires_grad and weight.ndim in (2, 3) and min(weight.shape[:2]) > 1 and not is_conditional


def _is_indexed(subject: ModelUnderTest, name: str, axis: int, size: int) -> bool:
    """Return whether a batch uses only some rows by design: tables of tokens and positions, kernels."""
    owner, _, attribute = name.rpartition(".")
    module = subject.locator.modules.get(owner)
    if isinstance(module, nn.Embedding) and attribute == "weight" and axis == 0:
        return True
    if axis == 2 and module is not None and "conv" in type(module).__name__.lower():
        return True
    lengths = {declared_length(subject), subject.contract.max_length or 0}
    if isinstance(module, nn.Linear):
        return size in lengths and len(set(module.weight.shape)) == 1
    near = {length + more for length in lengths for more in range(-1, 4)}
    near |= {factor * length + more for length in lengths for factor in (2, 3) for more in range(-3, 2)}
    return size in near or size in (subject.contract.vocab_size, subject.contract.output_size)


def _longest_run(sizes: Tensor) -> tuple[int, int] | None:
    """Return (first, number) of the longest run of slices without a gradient, if it is no accident."""
    largest = float(sizes.max())
    if not 0 < largest < float("inf"):
        return None  # The whole weight has no gradient, which is another finding.
    best, start = (0, 0), None
    for index, is_zero in enumerate([*(sizes <= SMALLEST_SHARE * largest).tolist(), False]):
        if is_zero and start is None:
            start = index
        elif not is_zero and start is not None:
            best, start = max(best, (index - start, start)), None
    number, first = best
    share = number / len(sizes)
    is_block = (number >= SHORTEST_RUN and share >= SMALLEST_PART) or (number >= 2 and share >= LARGE_PART)
    return (first, number) if is_block else None


def _narrowing(subject: ModelUnderTest, made: TracedCall) -> SourceLine | None:
    """Return the first line that takes only a part of the result of a module."""
    calls = subject.trace.calls
    storage = made.raw.untyped_storage().data_ptr()
    start = next(index for index, call in enumerate(calls) if call is made)
    for call in calls[start + 1 :]:
        parts = [tensor for tensor in call.inputs[:1] if tensor.untyped_storage().data_ptr() == storage]
        if parts and call.name in NARROWING and 0 < call.output.numel() < parts[0].numel():
            return call.line
    return None


def _unused(subject: ModelUnderTest, name: str, axis: int, sizes: Tensor, run: tuple[int, int]) -> Finding:
    first, number = run
    owner, _, attribute = name.rpartition(".")
    call = next((call for call in subject.trace.modules if call.module == owner), None)
    line = (_narrowing(subject, call) or call.line) if call is not None and owner else None
    location = subject.locator.module(owner, line) if owner else subject.locator.attribute(owner, attribute)
    axis_name = ("rows", "columns", "slices")[axis]
    return finding_at(
        "unused slice",
        "warning",
        f"{axis_name.capitalize()} {first} to {first + number - 1} of {name}, {number} of {len(sizes)} "
        f"({number / len(sizes):.0%}), never get a gradient: this part of the weight has no influence on the output. "
        "A part of a fused projection, a head or a half is read twice or not at all.",
        location,
        "use each part of its result once: check the sizes of split and chunk, the slices, and which part is taken "
        "for what.",
    )
