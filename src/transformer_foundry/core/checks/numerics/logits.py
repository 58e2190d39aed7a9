"""Check that logits are finite raw scores, one row per position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.weights import SOFTMAX
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import Trace, TracedCall
from transformer_foundry.core.models.inference import config_hints

__all__ = ["check_finite", "check_logits"]

SAMPLES = 4
EXACT = 1e-4
# Operations whose infinities are intended: they make masks.
FILLING = frozenset({"full", "masked_fill", "masked_fill_", "where", "triu", "tril", "triu_", "tril_", "fill_", "log"})
# Logits with a bound below this cannot give the right answer enough probability.
SMALL_BOUND = 1.5
# Largest probability of an answer that a bound has to allow.
SMALLEST_SHARE = 0.5
# Spread of the logits under generic weights: usual models have about 1, those with scaled-down logits 0.01.
SMALLEST_SPREAD = 1e-4


def check_finite(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that logits of ordinary inputs contain neither NaN nor infinity, in both modes and with padding."""
    inputs = subject.inputs(batch=2)
    trials = [("", inputs, False), (" in training mode", inputs, True)]
    if subject.contract.mask_argument is not None and inputs.ids.shape[1] > 2:
        mask = torch.ones_like(inputs.ids)
        mask[:, -2:] = 0
        trials.append((" when the last two positions are padding", replace(inputs, mask=mask), False))
    for when, given, training in trials:
        logits = subject.logits(given, training=training)
        bad = ~torch.isfinite(logits)
        if when.endswith("padding") and subject.labels_positions and subject.kind != "encoder-decoder":
            bad[:, -2:] = False
        if bad.any():
            yield _not_finite(subject, given, training, bad, when)
            return


def _not_finite(subject: ModelUnderTest, inputs: Inputs, training: bool, bad: Tensor, when: str) -> Finding:
    call = _origin(subject.traced(inputs, training=training))
    rows = bad.any(dim=-1)
    cause, remedy = _cause_of_nan(call)
    return finding_at(
        "finite",
        "error",
        f"{float(bad.float().mean()):.0%} of the logits are NaN or infinite{when} ({int(rows.sum())} of "
        f"{rows.numel()} positions). {cause} One NaN makes the loss NaN and, after one step, every weight.",
        subject.locator.at(call.line, call.module) if call is not None else subject.locator.forward(),
        remedy,
    )


def _cause_of_nan(call: TracedCall | None) -> tuple[str, str]:
    """Return the cause of the first NaN, and how to fix it."""
    usual = "keep divisors and arguments of logarithms and square roots away from zero, and exponents small."
    if call is None:
        return "Its origin was not found.", usual
    made = f"The operation {call.name} returns the first one"
    if call.name not in SOFTMAX or not call.inputs:
        return f"{made}: it divides by zero, takes the logarithm of zero, or its result is too large.", usual
    axis = call.arguments.get("dim", call.arguments.get("1", -1))
    if axis not in (None, -1, call.output.ndim - 1):
        return (
            f"{made}: this softmax of attention runs over axis {axis}, not over the last one, the keys. Where a mask "
            "hides all its inputs, it divides by zero.",
            "take the softmax over the keys: softmax(scores, dim=-1).",
        )
    hidden = torch.isinf(call.inputs[0]).all(dim=-1)
    return (
        f"{made}: {int(hidden.sum())} of {hidden.numel()} rows of attention scores are masked completely, so there is "
        "nothing to attend to. Usual causes: the mask is inverted or transposed, hides a position from itself, or a "
        "text is all padding.",
        "let every position attend at least to itself: check whether True or False hides, and use triu(1), not "
        "triu(0).",
    )


def check_logits(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the output is raw scores, one row per position: not probabilities, not limited to a small range."""
    if subject.contract.output_activation == "sigmoid":
        yield finding_at(
            "probabilities",
            "info",
            "The model ends with a sigmoid. Foundry undoes it, as its losses expect raw scores, and the programs of a "
            "package apply one for labels that do not exclude each other.",
            _output_location(subject),
        )
    if subject.contract.output_size < 2:
        return
    if _predicts_one_position(subject):
        yield _one_row(subject)
        return
    with generic_weights(subject.model):
        logits = subject.logits(subject.inputs(batch=SAMPLES))
    initial = subject.logits(subject.inputs(batch=SAMPLES))
    found = _probabilities(subject, logits, initial) or _squashed(subject, logits, initial)
    if found is not None:
        yield found


def _probabilities(subject: ModelUnderTest, logits: Tensor, initial: Tensor) -> Finding | None:
    """Find a softmax or its logarithm at the end, with generic and with initial weights."""
    location = _output_location(subject)
    is_positive = bool((logits >= 0).all() and (initial >= 0).all())
    if is_positive and _sums_to_one(logits) and _sums_to_one(initial):
        return finding_at(
            "probabilities",
            "error",
            "The output is probabilities, not logits: each row is positive and sums to 1, so a softmax has already "
            "been applied. The loss applies softmax again; its gradient nearly vanishes and it stays near ln V.",
            location,
            "remove the softmax from the end of the model; apply it where probabilities are needed.",
        )
    if _are_log_probabilities(logits) and _are_log_probabilities(initial):
        return finding_at(
            "probabilities",
            "info",
            "The output is log-probabilities: exp of each row sums to 1. Cross-entropy of them is the same as that "
            "of raw logits, so this is correct; a loss that applies softmax itself only repeats the computation.",
            location,
        )
    return None


def _squashed(subject: ModelUnderTest, logits: Tensor, initial: Tensor) -> Finding | None:
    """Find scores that cannot differ enough: scaled to almost zero, or the result of a bounded function."""
    location = _output_location(subject)
    values = torch.cat([logits.flatten(), initial.flatten()])
    spread, largest, zeros = float(logits.std()), float(values.abs().max()), float((values == 0).float().mean())
    if spread < SMALLEST_SPREAD:
        return finding_at(
            "squashed logits",
            "warning",
            f"The logits hardly differ, whatever the weights: their standard deviation is {spread:.1g} with weights "
            "of ordinary size. They are multiplied by a factor close to zero, and so is every gradient.",
            location,
            "remove the factor at the end of the model, or set it near 1.",
        )
    if bool(((values >= 0) & (values <= 1)).all()):
        return finding_at(
            "probabilities",
            "error",
            f"The output is squashed into (0, 1), as by a sigmoid (found: {values.min():.3f} to {values.max():.3f}). "
            "Cross-entropy expects raw logits: between scores of 0 and 1 no class can get more than "
            f"{math.e / (math.e + subject.contract.output_size - 1):.0%} of the probability.",
            location,
            "remove the sigmoid from the end of the model: single-label classes compete through softmax.",
        )
    bound = _bound(subject)
    share = 1 / (1 + (subject.contract.output_size - 1) * math.exp(-2 * bound))
    if (largest <= SMALL_BOUND and bound <= SMALL_BOUND * (1 + EXACT)) or share < SMALLEST_SHARE:
        return finding_at(
            "squashed logits",
            "warning",
            f"No logit leaves [{-bound:.2f}, {bound:.2f}], however large the weights: they are squashed, as by tanh or "
            f"a cosine. None of {subject.contract.output_size} answers can get more than {share:.1%} probability.",
            location,
            "remove the squashing function from the end of the model, or scale its result up (soft cap, temperature).",
        )
    if bool((values >= 0).all()) and zeros > 0.05:
        return finding_at(
            "squashed logits",
            "warning",
            f"No logit is negative and {zeros:.0%} are exactly 0, as after a ReLU. A class whose score is clipped "
            "gets no gradient and cannot become less likely.",
            location,
            "remove the ReLU from the end of the model.",
        )
    return None


def _predicts_one_position(subject: ModelUnderTest) -> bool:
    """Return whether a language model returns the logits of one position only."""
    contract = subject.contract
    return (
        contract.scores_texts
        and contract.output_size == contract.vocab_size
        and config_hints.num_labels_hint(subject.config) is None
        and subject.kind != "encoder-only"
    )


def _one_row(subject: ModelUnderTest) -> Finding:
    return finding_at(
        "logits",
        "info",
        f"The model returns one row of {subject.contract.output_size} logits per text, not one per position: it learns "
        "from the last token of each text only, where a language model learns from all tokens at once.",
        _output_location(subject),
        "apply the output layer to all positions: head(x), not head(x[:, -1]).",
    )


def _origin(record: Trace) -> TracedCall | None:
    """Return the operation that returns the first NaN, or the first infinity that is not a mask, if it is earlier."""
    nan = next((call for call in record.operations if _appears(call, torch.isnan)), None)
    infinite = next(
        (call for call in record.operations if call.name not in FILLING and _appears(call, torch.isinf)), None
    )
    if nan is None or infinite is None:
        return nan or infinite
    calls = record.operations
    return infinite if calls.index(infinite) < calls.index(nan) else nan


def _appears(call: TracedCall, test: Callable[[Tensor], Tensor]) -> bool:
    inputs = [tensor for tensor in call.inputs if tensor.is_floating_point()]
    return bool(test(call.output).any()) and not any(bool(test(tensor).any()) for tensor in inputs)


def _are_log_probabilities(logits: Tensor) -> bool:
    return bool((logits <= EXACT).all()) and _sums_to_one(logits.exp())


def _sums_to_one(logits: Tensor) -> bool:
    sums = logits.sum(dim=-1)
    return bool(torch.allclose(sums, torch.ones_like(sums), atol=EXACT))


def _bound(subject: ModelUnderTest) -> float:
    """Return the bound of the logits, which holds however large the weights are; infinity without one."""
    largest = []
    for factor in (30.0, 300.0):
        with generic_weights(subject.model), torch.no_grad():
            for parameter in subject.model.parameters():
                if parameter.is_floating_point():
                    parameter.mul_(factor)
            largest.append(float(subject.logits(subject.inputs(batch=SAMPLES)).abs().max()))
    return largest[1] if 1e-3 < largest[1] <= largest[0] * 1.05 else math.inf


def _output_location(subject: ModelUnderTest) -> Location:
    """Return the location of the last operation, which computes the logits."""
    calls = [call for call in subject.trace.operations if call.line is not None and call.output.is_floating_point()]
    if not calls:
        return subject.locator.forward()
    return subject.locator.at(calls[-1].line, calls[-1].module)
