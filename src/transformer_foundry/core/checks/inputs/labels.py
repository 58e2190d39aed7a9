"""The loss that a model computes itself: shifted once, blind to -100, differentiable, and no peeking at the labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.checks.probing.location import Location, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import graph_tensors
from transformer_foundry.core.checks.report.report import Finding
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.inference.call import call_arguments
from transformer_foundry.core.models.inference.output_format import find_loss

__all__ = ["LabelAlignment", "check_labels", "check_labels_hidden", "infer_label_shift", "shifted"]

TOLERANCE = 1e-3
SHIFTS = (0, 1, 2, -1, -2)


@dataclass(frozen=True)
class _Outcome:
    """The loss, the logits, and the logits as they stand in the graph of the loss."""

    loss: Tensor
    logits: Tensor
    graph_logits: Tensor


def check_labels(subject: ModelUnderTest) -> Iterator[Finding]:
    """The model's own loss compares each position with the right label and heeds -100."""
    if not subject.contract.computes_loss:
        return
    inputs = subject.inputs(batch=2)
    labels = _labels(subject, inputs)
    outcome = _call(subject, inputs, labels)
    if outcome is None:
        return
    location = subject.locator.call_of({"cross_entropy", "CrossEntropyLoss", "nll_loss", "loss_fn"})
    if not outcome.loss.requires_grad:
        yield finding_at(
            "loss",
            "error",
            "The loss that the model returns cannot be differentiated: it is cut off from the weights, so training "
            "on it "
            "changes nothing.",
            location,
            "return the loss itself: no .item(), .detach(), float() or torch.no_grad().",
        )
        return
    if subject.labels_positions:
        wrong = list(_shift(subject, outcome, labels, location))
        yield from wrong or _ignored(subject, inputs, labels, location)


def check_labels_hidden(subject: ModelUnderTest) -> Iterator[Finding]:
    """A decoder that makes its inputs from the labels shifts them: a position must not see its own label."""
    contract = subject.contract
    if subject.contract.task != "seq2seq_lm" or not contract.computes_loss or not contract.labels_argument:
        return
    inputs = subject.inputs(batch=1)
    labels = _labels(subject, inputs)
    base = _call(subject, Inputs(inputs.ids), labels)
    if base is None or base.logits.shape[1] != labels.shape[1]:
        return
    position = labels.shape[1] // 2
    changed = labels.clone()
    changed[:, position] = subject.tokens(1, 1, seed=91)[0, 0]
    moved = _call(subject, Inputs(inputs.ids), changed)
    if moved is None:
        return
    change = (moved.logits - base.logits).abs().amax(dim=-1)[0]
    if change[: position + 1].max() > 1e-5 * max(1e-3, float(base.logits.abs().max())):
        yield finding_at(
            "labels",
            "error",
            f"The decoder sees the label it has to predict: changing label {position} moves the output at position "
            f"{position} or before by {float(change[: position + 1].max()):.2g}. The loss falls to nothing and the "
            "model "
            "cannot generate.",
            subject.locator.forward(),
            "Shift the labels one to the right, behind a start token, before they go into the decoder.",
        )


def _labels(subject: ModelUnderTest, inputs: Inputs) -> Tensor:
    if subject.labels_positions:
        return inputs.target % subject.contract.output_size
    return torch.arange(len(inputs.target)) % subject.contract.output_size


def _call(subject: ModelUnderTest, inputs: Inputs, labels: Tensor) -> _Outcome | None:
    contract = subject.contract
    arguments: dict[str, Any] = call_arguments(
        contract, inputs.ids, decoder_input_ids=inputs.decoder_ids, labels=labels
    )
    subject.model.eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            output = subject.model(**arguments)
            loss = find_loss(output)
    except Exception:  # With labels a model may do something else altogether; then there is nothing to compare.
        return None
    logits = next((tensor for tensor in _tensors(output) if _are_logits(tensor, contract.output_size)), None)
    return None if loss is None or logits is None else _Outcome(loss, logits.detach().float(), logits)


def _tensors(output: Any) -> list[Tensor]:
    return graph_tensors(vars(output) if hasattr(output, "__dict__") and not isinstance(output, dict) else output)


def _are_logits(tensor: Tensor, size: int) -> bool:
    return tensor.ndim >= 2 and tensor.shape[-1] == size and tensor.is_floating_point()


def _shift(subject: ModelUnderTest, outcome: _Outcome, labels: Tensor, location: Location) -> Iterator[Finding]:
    if outcome.logits.ndim != 3 or outcome.logits.shape[1] != labels.shape[1]:
        return
    loss = float(outcome.loss.detach().float().mean())
    fits = {shift: _cross_entropy(outcome.logits, labels, shift) for shift in SHIFTS}
    best = min(fits, key=lambda shift: abs(fits[shift] - loss))
    wanted = 1 if subject.contract.task == "causal_lm" else 0
    argument = subject.contract.labels_argument or "labels"
    if abs(fits[best] - loss) > TOLERANCE * max(1.0, loss):
        lesson = infer_label_shift(outcome.loss, outcome.graph_logits, labels)
        if lesson is None or lesson.shift in (wanted, None) or lesson.is_negative:
            yield from _odd_loss(subject, loss, outcome.logits, labels, wanted, lesson, location)
            return
        best = lesson.shift
    if best == wanted or abs(fits[wanted] - loss) <= TOLERANCE * max(1.0, loss):
        return
    right = f"the label {wanted} further" if wanted else "the label at the same place"
    numbers = f"its loss is {loss:.4f}; compared with {right} it would be {fits[wanted]:.4f}"
    if wanted == 1 and best == 0:
        aligned = "target" not in argument
        yield finding_at(
            "labels",
            "error" if aligned else "info",
            f"The model's own loss does not shift the labels: it compares position t with label t ({numbers}). Given "
            f"{argument} = input_ids it learns to copy its input, not to predict the next token."
            + ("" if aligned else " That is right if the caller shifts the targets; Foundry uses its own loss."),
            location,
            "compare logits[:, :-1] with labels[:, 1:].",
        )
    else:
        yield finding_at(
            "labels",
            "error",
            f"The model's own loss shifts the labels by {best}, where {wanted} is right ({numbers}): it learns to "
            f"predict the wrong token{', one that it has already seen' if best < 0 else ''}.",
            location,
            "compare logits[:, :-1] with labels[:, 1:], once." if wanted else "do not shift these labels.",
        )


def _odd_loss(
    subject: ModelUnderTest,
    loss: float,
    logits: Tensor,
    labels: Tensor,
    wanted: int,
    lesson: LabelAlignment | None,
    location: Location,
) -> Iterator[Finding]:
    """A loss that is no plain cross-entropy: other terms are welcome, mistakes are not."""
    right, count = _cross_entropy(logits, labels, wanted), labels[:, wanted:].numel()
    if _is_softmaxed_twice(loss, logits, labels, wanted) and _stays_softmaxed_twice(subject, labels, wanted):
        yield finding_at(
            "loss",
            "error",
            f"The model's own loss applies softmax twice: {loss:.4f} is the cross-entropy of probabilities, that of "
            f"the logits is {right:.4f}. cross_entropy applies softmax itself; its gradient all but vanishes here.",
            location,
            "hand the raw logits to cross_entropy, without softmax.",
        )
        return
    if lesson is not None and (lesson.is_negative or lesson.shift is None):
        what = (
            "has the wrong sign: it falls as the right answer becomes less likely"
            if lesson.is_negative
            else "does not teach the labels: its gradient raises other logits than those of the labels, at any shift"
        )
        yield finding_at(
            "loss",
            "error",
            f"The model's own loss {what} (it is {loss:.4f}; cross-entropy is {right:.4f}). Usual causes: a minus too "
            "many, logits reshaped without exchanging axes, or labels of another order.",
            location,
            "compute F.cross_entropy(logits.reshape(-1, V), labels.reshape(-1), ignore_index=-100).",
        )
        return
    if abs(loss / count - right) <= TOLERANCE * right:
        yield finding_at(
            "loss",
            "warning",
            f"The model's own loss is a sum, not a mean: {loss:.1f} for {count} targets, {right:.3f} each. The "
            "gradient "
            "grows with batch and length, and the learning rate no longer fits.",
            location,
            'average it: reduction="mean".',
        )


def _is_softmaxed_twice(loss: float, logits: Tensor, labels: Tensor, wanted: int) -> bool:
    return abs(_cross_entropy(logits.softmax(dim=-1), labels, wanted) - loss) <= TOLERANCE * loss


def _stays_softmaxed_twice(subject: ModelUnderTest, labels: Tensor, wanted: int) -> bool:
    """Whether it is so under other weights too: before training, every loss is near ln V."""
    with generic_weights(subject.model):
        outcome = _call(subject, subject.inputs(batch=len(labels)), labels)
    if outcome is None:
        return True
    return _is_softmaxed_twice(float(outcome.loss.detach().float().mean()), outcome.logits, labels, wanted)


def _ignored(subject: ModelUnderTest, inputs: Inputs, labels: Tensor, location: Location) -> Iterator[Finding]:
    half = labels.clone()
    half[:, labels.shape[1] // 2 :] = IGNORE_INDEX
    outcome = _call(subject, inputs, half)
    whole = _call(subject, inputs, labels)
    if whole is None:
        return
    problem = ""
    if outcome is None:
        problem = "the model fails on such labels"
    elif outcome.logits.ndim == 3 and outcome.logits.shape[1] == labels.shape[1]:
        shift = min((0, 1), key=lambda s: abs(_cross_entropy(whole.logits, labels, s) - float(whole.loss.detach())))
        full = _cross_entropy(whole.logits, labels, shift)
        if abs(full - float(whole.loss.detach())) > TOLERANCE * max(1.0, full):
            return  # The loss has other terms: nothing to compare with.
        wanted, found = _cross_entropy(outcome.logits, half, shift), float(outcome.loss.detach())
        if not abs(wanted - found) <= TOLERANCE * max(1.0, wanted):
            problem = f"the loss is {found:.4f} where the remaining labels alone give {wanted:.4f}"
    if problem:
        yield finding_at(
            "labels",
            "error",
            f"Labels of -100 are not ignored: {problem}. -100 marks padding and tokens that are not to be learned; "
            "here they spoil the loss.",
            location,
            "pass ignore_index=-100 to cross_entropy, and do not overwrite these labels.",
        )


def _cross_entropy(logits: Tensor, labels: Tensor, shift: int) -> float:
    kept, wanted = shifted(logits, labels, shift)
    return float(F.cross_entropy(kept.flatten(0, 1), wanted.flatten(), ignore_index=IGNORE_INDEX))


SHIFTS = (0, 1, 2, -1, -2)


# Share of the positions at which the logit of a label has to be the one that rises.
MOST = 0.9


@dataclass(frozen=True)
class LabelAlignment:
    """Which labels a loss teaches.

    Attributes:
        shift: Position t learns label t + shift; None when it learns no label.
        is_negative: Whether the logit of the label falls where it should rise.
    """

    shift: int | None
    is_negative: bool = False


def infer_label_shift(loss: Tensor, logits: Tensor, labels: Tensor) -> LabelAlignment | None:
    """Return what ``loss`` teaches; None when the loss was not made of these logits.

    Whatever else a loss contains, smoothing or penalties, its gradient is most negative for the logit that it raises.

    Args:
        loss: The loss, with its graph.
        logits: (B, T, V) float, with their graph.
        labels: (B, T) int64.
    """
    if not logits.requires_grad or not loss.requires_grad:
        return None
    with torch.enable_grad():
        total = loss.float().sum()
    gradient = torch.autograd.grad(total, logits, retain_graph=True, allow_unused=True)[0]
    if gradient is None or not bool(gradient.abs().max() > 0):
        return None
    for sign in (1, -1):
        raised = (sign * gradient).argmin(dim=-1)
        active = gradient.abs().amax(dim=-1) > 1e-3 * gradient.abs().max()
        for shift in SHIFTS:
            (position, wanted), (counted, _) = shifted(raised, labels, shift), shifted(active, labels, shift)
            if bool(counted.any()) and float((position == wanted)[counted].float().mean()) >= MOST:
                return LabelAlignment(shift, is_negative=sign < 0)
    return LabelAlignment(None)


def shifted(values: Tensor, labels: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Return values (B, T, ...) and labels (B, T) such that each position faces the label ``shift`` further."""
    length = labels.shape[1] - abs(shift)
    start = max(0, -shift)
    return values[:, start : start + length], labels[:, start + shift : start + shift + length]
