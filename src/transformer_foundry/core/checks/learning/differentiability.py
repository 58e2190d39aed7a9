"""Check that the loss is differentiable: its backward pass runs and reaches the weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import torch

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, loss_of_random_labels
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import Trace, record_calls
from transformer_foundry.core.models.error_meanings import describe, explain

__all__ = ["check_differentiability", "gradient_cut"]


def check_differentiability(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the loss has a gradient and its backward pass runs."""
    inputs = subject.inputs(batch=2)
    subject.is_differentiable = False
    with torch.enable_grad():
        with record_calls(subject.model, subject.source) as record:
            loss = loss_of_random_labels(subject, inputs)
        if not loss.requires_grad:
            yield finding_at(
                "differentiable",
                "error",
                "The output is detached from every weight: the loss has no gradient, so nothing can learn.",
                gradient_cut(subject, record) or _integer_line(subject, record) or subject.locator.forward(),
                "remove .detach(), .data, .item(), argmax, torch.tensor(...) and no_grad() from forward.",
            )
            return
        # A second pass, because the trace keeps copies of the values in the graph.
        try:
            torch.autograd.backward(loss_of_random_labels(subject, inputs))
        except RuntimeError as err:
            yield _backward_failure(subject, inputs, err)
            return
        finally:
            subject.model.zero_grad(set_to_none=True)
    subject.is_differentiable = True


def _integer_line(subject: ModelUnderTest, record: Trace) -> Location | None:
    """Return the last location that converts floating point numbers to integers."""
    calls = [
        call
        for call in record.operations
        if call.name in ("argmax", "topk", "round", "sign", "one_hot", "long", "int") and call.line is not None
    ]
    return subject.locator.at(calls[-1].line, calls[-1].module) if calls else None


def _backward_failure(subject: ModelUnderTest, inputs: Inputs, error: RuntimeError) -> Finding:
    """Return a finding at the line that torch's anomaly mode names: the operation whose gradient fails."""
    line = None
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("always")
        try:
            torch.autograd.backward(loss_of_random_labels(subject, inputs))
        except RuntimeError:
            text = "".join(str(item.message) for item in caught)
            found = [
                SourceLine(path, int(number))
                for path, number in re.findall(r'File "([^"]+)", line (\d+)', text)
                if path in subject.source.files
            ]
            line = found[-1] if found else None
    explanation = explain(error)
    return finding_at(
        "differentiable",
        "error",
        f"The backward pass fails, so training stops at the first step. {explanation.meaning} The error: "
        f"{describe(error)}",
        subject.locator.at(line) if line is not None else subject.locator.forward(),
        f"{explanation.fix}.",
    )


def gradient_cut(subject: ModelUnderTest, record: Trace) -> Location | None:
    """Return the first location at which a value loses its gradient."""
    return next((subject.locator.at(line, module) for _, module, line in record.cuts if line), None)
