"""Check that the number formats of training compute what the formulas say, with float64 as the reference."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from transformer_foundry.core.checks.numerics.remedies import remedy
from transformer_foundry.core.checks.numerics.training_formats import RUNS, Run
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import (
    Inputs,
    ModelUnderTest,
    declared_length,
)
from transformer_foundry.core.checks.probing.reference.shadow import PRODUCTS, WHOLE, Shadow, Step, shadow_run
from transformer_foundry.core.checks.probing.reference.training_pass import (
    gradients_of,
    has_own_loss,
    training_pass,
)
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.error_meanings import describe, explain, root_cause

__all__ = ["check_rounding"]

# Numbers of the logits of one run: the copies in float64 take 16 bytes for each number of each operation.
LARGEST_RUN = 2_000_000
LONGEST = 1024
# Enough where no error grows with the position: numbers up to 2048 are whole in float16, up to 256 in bfloat16.
SHORT = 128
# Errors of sound models are 0.5 to 11 times those of the carefully rounded copy.
LARGEST_RATIO = 24.0
# Errors of the logits, as a share of their spread, that are worth reporting.
SMALLEST_ERROR = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
# Error of a result, as a share of it, that an infinite input causes. The tanh of infinity is exact, its inverse is not.
LOST = 0.5
# The same for the model's own loss, as a share of it. A rounding to float16 is 2.4e-4 on average, to bfloat16 2e-3.
SMALLEST_LOSS_ERROR = {torch.float32: 3e-5, torch.float16: 0.02, torch.bfloat16: 0.05}
IN_HALF = re.compile(r"\.half\(\)|(\bto\(|dtype\s*=\s*)torch\.(float16|half)\b")


def check_rounding(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that float32, autocast and half precision give the logits of float64, but for the usual rounding."""
    try:
        spare = replace(subject, adapter=Adapter(copy.deepcopy(subject.model), subject.contract))
    except (RuntimeError, TypeError):
        return  # A model that cannot be copied keeps tensors of a computation; other checks report that.
    spare.model.eval()
    length = _length(subject)
    short, long = (subject.inputs(batch=1, length=size) for size in (min(length, SHORT), length))
    own_loss = has_own_loss(spare) and length > 2
    reported: set[str] = set()
    runs = [run for run in RUNS if run.dtype is not torch.float16 or not _states_bfloat16(subject)]
    for run in runs:
        for finding in _judge(spare, long if run.is_long else short, run, own_loss):
            if run.only_in_half and not _runs_in_half(subject):
                finding = replace(finding, severity="info")
            if finding.check not in reported:
                yield finding
            if finding.is_problem:
                reported.add(finding.check)


def _states_bfloat16(subject: ModelUnderTest) -> bool:
    """Return whether the configuration says that the model runs in bfloat16, whose range is that of float32."""
    return _states(subject, "bfloat16", "bf16")


def _runs_in_half(subject: ModelUnderTest) -> bool:
    """Return whether the configuration or the code says that the model itself runs in float16."""
    return _states(subject, "float16", "fp16", "half") or any(
        IN_HALF.search(line.partition("#")[0]) for file in subject.source.files.values() for line in file.lines
    )


def _states(subject: ModelUnderTest, *names: str) -> bool:
    stated = (subject.config.get(key) for key in ("torch_dtype", "dtype"))
    return any(str(value).removeprefix("torch.") in names for value in stated)


def _length(subject: ModelUnderTest) -> int:
    affordable = LARGEST_RUN // max(1, subject.contract.output_size)
    return max(1, min(declared_length(subject), LONGEST, max(affordable, subject.length)))


def _judge(subject: ModelUnderTest, inputs: Inputs, run: Run, own_loss: bool) -> Iterator[Finding]:
    with run.weights(subject, inputs), torch.set_grad_enabled(run.backward):
        model = subject.model
        if run.dtype is not torch.float32 and not run.is_autocast:
            model = copy.deepcopy(model).to(run.dtype)
        spare = replace(subject, adapter=Adapter(model, subject.contract))
        try:
            if not _is_suspicious(subject, spare, inputs, run, own_loss):
                return
            with shadow_run(model, subject.source, run.dtype if run.judges_errors else None) as shadow:
                results = _compute(spare, inputs, run, own_loss)
        except Exception as err:  # The model's code may raise anything; the exception is the finding.
            yield from _failure(subject, run, err)
            return
        with torch.no_grad():
            yield from _overflow(subject, run, shadow, results)
            if run.judges_errors:
                yield from _error(subject, run, shadow, results)


def _is_suspicious(subject: ModelUnderTest, spare: ModelUnderTest, inputs: Inputs, run: Run, own_loss: bool) -> bool:
    """Return whether a run needs the copies of all operations: a cheaper comparison shows something unusual."""
    if not run.judges_errors:
        if run.dtype is torch.float16:
            return True
        return not all(bool(item.isfinite().all()) for item in _compute(spare, inputs, run, own_loss))
    is_float32 = run.dtype is torch.float32
    with shadow_run(spare.model, subject.source, None, of_weights=is_float32) as shadow:
        found = _compute(spare, inputs, run, own_loss)
    if is_float32:
        wanted = [shadow.reference(item) for item in found]
    else:
        wanted = [item.double() for item in _compute(subject, inputs, replace(run, is_autocast=False), own_loss)]
    return _share(run, found, wanted) > 1 or any(_is_misplaced(step, run.dtype) for step in shadow.steps)


@torch.no_grad()
def _share(run: Run, found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the largest error of logits and loss, as a share of the smallest that is reported."""
    logits, exact = found[0].double(), wanted[0]
    if not all(bool(item.isfinite().all()) for item in found):
        return math.inf
    share = float(_difference(logits, exact).max()) / max(_spread(exact), 1e-30) / SMALLEST_ERROR[run.dtype]
    return max(share, _loss_error(found, wanted) / SMALLEST_LOSS_ERROR[run.dtype]) / run.tolerance


def _loss_error(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the error of the model's own loss as a share of it; 0 without one."""
    if len(found) < 2:
        return 0.0
    loss, exact = float(found[1]), float(wanted[1])
    return abs(loss - exact) / max(abs(exact), 1e-2)


def _compute(subject: ModelUnderTest, inputs: Inputs, run: Run, own_loss: bool) -> list[Tensor]:
    """Return the logits in the format of the run, the model's own loss, and the gradients if they are wanted."""
    with run.formats:
        result = training_pass(subject, inputs, with_own_loss=own_loss)
    if not run.backward:
        return result.results
    if not bool(result.loss.isfinite()):
        return [*result.results, result.loss]
    return [*result.results, *gradients_of(subject, result.loss)]


def _overflow(subject: ModelUnderTest, run: Run, shadow: Shadow, results: list[Tensor]) -> Iterator[Finding]:
    """Report NaN in results, and infinity that float64 does not give."""
    lost = [item for item in results if bool((item.isnan() | item.isinf() & shadow.reference(item).isfinite()).any())]
    step = next((step for step in shadow.steps if step.overflows or step.is_singular), None)
    hidden = next((step for step in shadow.steps if step.hides_overflow and step.error > LOST), None)
    if step is not None and hidden is not None and not lost and step.name not in PRODUCTS:
        yield _hidden_overflow(subject, run, step, hidden)
    if not lost or step is None or (run.dtype is torch.float16 and step.name in PRODUCTS):
        return  # A product overflows in float16 because of the size of the weights, not of the formula.
    what = "the logits" if lost[0] is results[0] else "the loss" if lost[0].ndim == 0 else "gradients of weights"
    yield finding_at(
        "overflow",
        "error" if run.dtype is torch.float32 else "warning",
        f"{_begin(run.where)} {what} become NaN or infinite. The first operation "
        f"that overflows is {step.name}{_backward(step)}, {_given(step)}{subject.source.quoted(step.line)}.",
        subject.locator.at(step.line, step.module),
        remedy(step.name),
    )


def _hidden_overflow(subject: ModelUnderTest, run: Run, step: Step, hidden: Step) -> Finding:
    return finding_at(
        "overflow",
        "warning",
        f"{_begin(run.where)} {step.name} overflows, {_given(step)}{subject.source.quoted(step.line)}: float16 ends at "
        f"65504. The result of {hidden.name} behind it is finite, but wrong by {min(hidden.error, 1):.0%} of its size, "
        "as the inverse of infinity is 0.",
        subject.locator.at(step.line, step.module),
        remedy(step.name),
    )


def _error(subject: ModelUnderTest, run: Run, shadow: Shadow, results: list[Tensor]) -> Iterator[Finding]:
    """Report logits, or a loss, that differ from float64 by more than careful rounding explains."""
    exact = [shadow.reference(item) for item in results]
    careful = [shadow.reference(item, careful=True) for item in results]
    spread = _spread(exact[0])
    errors, usual = _difference(results[0].double(), exact[0]), _difference(careful[0], exact[0])
    if not spread > 0 or not bool(errors.isfinite().all()):
        return
    error, ratio = float(errors.max()) / spread, float(errors.max()) / max(float(usual.mean()), 1e-30)
    whole = next((step for step in shadow.steps if step.name == WHOLE and step.error > 1.5), None)
    constant = next((step for step in shadow.steps if _is_inexact_constant(step, run.dtype)), None)
    is_large = ratio >= LARGEST_RATIO and error >= run.tolerance * SMALLEST_ERROR[run.dtype]
    size = f"the logits differ from float64 by up to {error:.2%} of their spread"
    if not (whole or constant or is_large):
        error, least = _loss_error(results, exact), _loss_error(careful, exact)
        ratio = error / max(least, torch.finfo(run.dtype).eps / 2)
        size = f"the model's own loss differs from float64 by {error:.2%}"
        if not (ratio >= LARGEST_RATIO and error >= SMALLEST_LOSS_ERROR[run.dtype]):
            return
    step = whole or constant or _origin(shadow, run.dtype)
    size += f", {ratio:.0f} times the error of careful rounding"
    if whole is not None:
        size = f"whole numbers are computed from rounded ones and are wrong by up to {whole.error:.0f}"
    elif constant is not None and not is_large:
        size = f"numbers that depend on positions alone are wrong by {constant.error:.1%} of their size"
    origin = f" It arises in {step.name}, {_given(step)}{subject.source.quoted(step.line)}." if step is not None else ""
    yield finding_at(
        "precision",
        "warning",
        f"{_begin(run.where)} {size}.{origin}",
        subject.locator.at(step.line, step.module) if step is not None else subject.locator.forward(),
        remedy(step.name if step is not None else "", exact=True),
    )


def _is_misplaced(step: Step, dtype: torch.dtype) -> bool:
    """Return whether a step shows wrong whole numbers or positions."""
    return (step.name == WHOLE and step.error > 1.5) or _is_inexact_constant(step, dtype)


def _is_inexact_constant(step: Step, dtype: torch.dtype) -> bool:
    """Return whether positions, angles or other numbers that no weight changes are far from exact."""
    smallest = max(SMALLEST_ERROR[dtype], LARGEST_RATIO * torch.finfo(dtype).eps)
    return step.name != WHOLE and not step.is_learned and not step.is_backward and step.error > smallest


def _spread(logits: Tensor) -> float:
    return float((logits - logits.mean(dim=-1, keepdim=True)).std())


def _difference(values: Tensor, exact: Tensor) -> Tensor:
    """Return the root mean square difference of each row, without a constant that softmax ignores."""
    difference = torch.where(exact.isfinite() & values.isfinite(), values - exact, 0)
    return (difference - difference.mean(dim=-1, keepdim=True)).pow(2).mean(dim=-1).sqrt()


def _origin(shadow: Shadow, dtype: torch.dtype) -> Step | None:
    """Return the first operation whose error is out of proportion to careful rounding and to the number format."""
    smallest = 4 * torch.finfo(dtype).eps
    inexact = (step for step in shadow.steps if step.error > LARGEST_RATIO / 3 * max(step.yardstick, smallest))
    return next(inexact, None) or max(shadow.steps, key=lambda step: step.growth, default=None)


def _failure(subject: ModelUnderTest, run: Run, error: Exception) -> Iterator[Finding]:
    """Report a run that fails: a fault under autocast, unless only a CPU lacks the kernel.

    A model that refuses ``model.half()`` as a whole says so at once: that is worth knowing, but no fault.
    """
    cause = root_cause(error)
    is_overflow = bool(re.search(r"overflow", str(cause)))
    is_lacking = bool(re.search(r"not implemented|not support|could not create a primitive", str(cause)))
    line = subject.source.raised_at(error)
    is_fault = line is not None and "site-packages" not in line.path  # A line of a library is not the user's to change.
    is_fault &= run.is_autocast and (is_overflow or not is_lacking)
    yield finding_at(
        "precision",
        "warning" if is_fault else "info",
        f"The model fails {run.where}, which training on a GPU uses to save time and memory. "
        f"{explain(cause).meaning} The error: {describe(cause)}",
        subject.locator.raised(error),
        "use torch.finfo(x.dtype).min for masks, and convert other tensors with .to(x.dtype).",
    )


def _given(step: Step) -> str:
    return f"for inputs as large as {step.given:.3g}"


def _backward(step: Step) -> str:
    return " in the backward pass" if step.is_backward else ""


def _begin(where: str) -> str:
    return where[:1].upper() + where[1:]
