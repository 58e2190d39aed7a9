"""Check the loss that a model computes itself: labels shifted once, -100 ignored, differentiable, labels hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.checks.inputs.label_alignment import SHIFTS, LabelAlignment, infer_label_shift, shifted
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.reference.scales import large_activations
from transformer_foundry.core.checks.probing.trace import graph_tensors
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.inference.call import call_arguments
from transformer_foundry.core.models.inference.output_format import find_loss

__all__ = ["check_labels", "check_labels_hidden"]

TOLERANCE = 1e-3
LOSS_TOLERANCE = 0.03
# Differences of logits that confident models have.
LARGE_LOGITS = 100.0


@dataclass(frozen=True)
class _LabeledCall:
    """Loss, logits, and the logits in the graph of the loss."""

    loss: Tensor
    logits: Tensor
    graph_logits: Tensor


def check_labels(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the model's own loss compares each position with the right label and ignores -100."""
    if not subject.contract.computes_loss:
        return
    inputs = subject.inputs(batch=2)
    labels = _labels(subject, inputs)
    result = _call(subject, inputs, labels)
    if result is None:
        return
    if not result.loss.requires_grad:
        yield finding_at(
            "loss",
            "error",
            "The loss that the model returns cannot be differentiated: it is detached from the weights, so training "
            "on it changes nothing.",
            _loss_call(subject),
            "return the loss itself: no .item(), .detach(), float() or torch.no_grad().",
        )
        return
    if subject.labels_positions:
        wrong = list(_wrong_shift(subject, result, labels))
        yield from wrong or _not_ignored(subject, inputs, labels)
    yield from _when_confident(subject, inputs, labels)


def _loss_call(subject: ModelUnderTest) -> Location:
    """Return where the model computes its loss; asked for a finding only, since it parses every file of the model."""
    return subject.locator.call_of({"cross_entropy", "CrossEntropyLoss", "nll_loss", "loss_fn"})


def _when_confident(subject: ModelUnderTest, inputs: Inputs, labels: Tensor) -> Iterator[Finding]:
    """Find a loss that is cross-entropy for small scores only: training makes some answers very improbable."""
    shifts = SHIFTS if subject.labels_positions else (0,)
    with generic_weights(subject.model):
        usual = _call(subject, inputs, labels)
    with large_activations(subject, inputs, LARGE_LOGITS):
        result = _call(subject, inputs, labels)
    if (
        usual is None
        or result is None
        or not result.logits.isfinite().all()
        or result.logits.ndim != (3 if subject.labels_positions else 2)
    ):
        return
    if subject.labels_positions and result.logits.shape[1] != labels.shape[1]:
        return
    found, loss = (float(item.loss.detach().float().mean()) for item in (usual, result))
    fits = {shift: [_cross_entropy(item.logits, labels, shift) for item in (usual, result)] for shift in shifts}
    # The labels that the loss uses: several may fit, since small scores give similar losses.
    larger = [large for small, large in fits.values() if abs(found - small) <= TOLERANCE * max(1.0, small)]
    if larger and not any(abs(loss - large) <= LOSS_TOLERANCE * large for large in larger):
        yield finding_at(
            "loss",
            "warning",
            f"The loss of confident answers is wrong: with logits up to {float(result.logits.abs().max()):.0f} it is "
            f"{loss:.4g}, where cross-entropy is {larger[0]:.4g}. The softmax of an improbable answer rounds to 0, so "
            "its logarithm is infinite or cut off, and its gradient is NaN or 0.",
            _loss_call(subject),
            "use F.cross_entropy or F.log_softmax on the logits, not torch.log(torch.softmax(...)).",
        )


def check_labels_hidden(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a decoder that derives its inputs from the labels shifts them: no position sees its own label."""
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
            f"The decoder sees the label it has to predict: changing label {position} changes the output at position "
            f"{position} or before by {float(change[: position + 1].max()):.2g}. The loss falls to zero, and the "
            "model cannot generate text.",
            subject.locator.forward(),
            "shift the labels one to the right, behind a start token, before they go into the decoder.",
        )


def _labels(subject: ModelUnderTest, inputs: Inputs) -> Tensor:
    if subject.labels_positions:
        return inputs.target % subject.contract.output_size
    return torch.arange(len(inputs.target)) % subject.contract.output_size


def _call(subject: ModelUnderTest, inputs: Inputs, labels: Tensor) -> _LabeledCall | None:
    contract = subject.contract
    arguments: dict[str, Any] = call_arguments(
        contract, inputs.ids, decoder_input_ids=inputs.decoder_ids, labels=labels
    )
    subject.model.eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            output = subject.model(**arguments)
            loss = find_loss(output)
    except Exception:  # With labels a model may compute something else; then there is nothing to compare.
        return None
    logits = next((tensor for tensor in _tensors(output) if _are_logits(tensor, contract.output_size)), None)
    return None if loss is None or logits is None else _LabeledCall(loss, logits.detach().float(), logits)


def _tensors(output: Any) -> list[Tensor]:
    return graph_tensors(vars(output) if hasattr(output, "__dict__") and not isinstance(output, dict) else output)


def _are_logits(tensor: Tensor, size: int) -> bool:
    return tensor.ndim >= 2 and tensor.shape[-1] == size and tensor.is_floating_point()


def _wrong_shift(subject: ModelUnderTest, result: _LabeledCall, labels: Tensor) -> Iterator[Finding]:
    if result.logits.ndim != 3 or result.logits.shape[1] != labels.shape[1]:
        return
    loss = float(result.loss.detach().float().mean())
    fits = {shift: _cross_entropy(result.logits, labels, shift) for shift in SHIFTS}
    best = min(fits, key=lambda shift: abs(fits[shift] - loss))
    wanted = 1 if subject.contract.task == "causal_lm" else 0
    argument = subject.contract.labels_argument or "labels"
    is_near = best != wanted and abs(fits[wanted] - loss) <= LOSS_TOLERANCE * loss
    if abs(fits[best] - loss) > TOLERANCE * max(1.0, loss) or is_near:
        alignment = infer_label_shift(result.loss, result.graph_logits, labels)
        if alignment is None or alignment.shift in (wanted, None) or alignment.is_negative:
            yield from _unusual_loss(subject, loss, result.logits, labels, wanted, alignment)
            return
        best = alignment.shift
    if best == wanted or abs(fits[wanted] - loss) <= TOLERANCE * max(1.0, loss):
        return
    right = f"the label at t + {wanted}" if wanted else "the label at the same position"
    numbers = f"its loss is {loss:.4f}; compared with {right} it would be {fits[wanted]:.4f}"
    if wanted == 1 and best == 0:
        aligned = "target" not in argument
        yield finding_at(
            "labels",
            "error" if aligned else "info",
            f"The model's own loss does not shift the labels: it compares position t with label t ({numbers}). With "
            f"{argument} = input_ids it learns to copy its input, not to predict the next token."
            + ("" if aligned else " This is right if the caller shifts the targets; Foundry uses its own loss."),
            _loss_call(subject),
            "compare logits[:, :-1] with labels[:, 1:].",
        )
    else:
        yield finding_at(
            "labels",
            "error",
            f"The model's own loss shifts the labels by {best}, where {wanted} is right ({numbers}): it learns to "
            f"predict the wrong token{', one that it has already seen' if best < 0 else ''}.",
            _loss_call(subject),
            "compare logits[:, :-1] with labels[:, 1:], once." if wanted else "do not shift these labels.",
        )


def _unusual_loss(
    subject: ModelUnderTest,
    loss: float,
    logits: Tensor,
    labels: Tensor,
    wanted: int,
    alignment: LabelAlignment | None,
) -> Iterator[Finding]:
    """Find mistakes in a loss that is not plain cross-entropy; additional terms are accepted."""
    right, count = _cross_entropy(logits, labels, wanted), labels[:, wanted:].numel()
    if _is_softmaxed_twice(loss, logits, labels, wanted) and _stays_softmaxed_twice(subject, labels, wanted):
        yield finding_at(
            "loss",
            "error",
            f"The model's own loss applies softmax twice: {loss:.4f} is the cross-entropy of probabilities, that of "
            f"the logits is {right:.4f}. cross_entropy applies softmax itself; its gradient nearly vanishes here.",
            _loss_call(subject),
            "pass the raw logits to cross_entropy, without softmax.",
        )
        return
    if alignment is not None and (alignment.is_negative or alignment.shift is None):
        what = (
            "has the wrong sign: it falls as the right answer becomes less likely"
            if alignment.is_negative
            else "does not teach the labels: its gradient raises other logits than those of the labels, at every shift"
        )
        yield finding_at(
            "loss",
            "error",
            f"The model's own loss {what} (it is {loss:.4f}; cross-entropy is {right:.4f}). Usual causes: an extra "
            "minus sign, logits reshaped without transposing axes, or labels in another order.",
            _loss_call(subject),
            "compute F.cross_entropy(logits.reshape(-1, V), labels.reshape(-1), ignore_index=-100).",
        )
        return
    if abs(loss / count - right) <= TOLERANCE * right:
        yield finding_at(
            "loss",
            "warning",
            f"The model's own loss is a sum, not a mean: {loss:.1f} for {count} targets, {right:.3f} each. The "
            "gradient grows with batch size and length, so the learning rate no longer fits.",
            _loss_call(subject),
            'average it: reduction="mean".',
        )


def _is_softmaxed_twice(loss: float, logits: Tensor, labels: Tensor, wanted: int) -> bool:
    return abs(_cross_entropy(logits.softmax(dim=-1), labels, wanted) - loss) <= TOLERANCE * loss


def _stays_softmaxed_twice(subject: ModelUnderTest, labels: Tensor, wanted: int) -> bool:
    """Return whether this holds under other weights too, and they tell: for small logits every loss is near ln V."""
    with generic_weights(subject.model):
        result = _call(subject, subject.inputs(batch=len(labels)), labels)
    if result is None:
        return True
    loss = float(result.loss.detach().float().mean())
    is_plain = abs(_cross_entropy(result.logits, labels, wanted) - loss) <= TOLERANCE * loss
    return not is_plain and _is_softmaxed_twice(loss, result.logits, labels, wanted)


def _not_ignored(subject: ModelUnderTest, inputs: Inputs, labels: Tensor) -> Iterator[Finding]:
    """Find labels of -100 that contribute to the loss."""
    half = labels.clone()
    half[:, labels.shape[1] // 2 :] = IGNORE_INDEX
    result = _call(subject, inputs, half)
    whole = _call(subject, inputs, labels)
    if whole is None:
        return
    problem = ""
    if result is None:
        yield finding_at(
            "labels",
            "info",
            "The model's own loss fails on labels of -100, which mark padding and tokens that must not be learned. "
            "Foundry computes its own loss and passes no such labels; the Trainer of transformers does.",
            _loss_call(subject),
            "pass ignore_index=-100 to cross_entropy.",
        )
        return
    if result.logits.ndim == 3 and result.logits.shape[1] == labels.shape[1]:
        shift = min((0, 1), key=lambda s: abs(_cross_entropy(whole.logits, labels, s) - float(whole.loss.detach())))
        full = _cross_entropy(whole.logits, labels, shift)
        if abs(full - float(whole.loss.detach())) > TOLERANCE * max(1.0, full):
            return  # The loss has other terms: nothing to compare with.
        wanted, found = _cross_entropy(result.logits, half, shift), float(result.loss.detach())
        if not abs(wanted - found) <= TOLERANCE * max(1.0, wanted):
            problem = f"the loss is {found:.4f} where the remaining labels alone give {wanted:.4f}"
    if problem:
        yield finding_at(
            "labels",
            "error",
            f"Labels of -100 are not ignored: {problem}. -100 marks padding and tokens that must not be learned; here "
            "they contribute to the loss.",
            _loss_call(subject),
            "pass ignore_index=-100 to cross_entropy, and do not overwrite these labels.",
        )


def _cross_entropy(logits: Tensor, labels: Tensor, shift: int) -> float:
    if labels.ndim == 1:
        return float(F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX))
    kept, wanted = shifted(logits, labels, shift)
    return float(F.cross_entropy(kept.flatten(0, 1), wanted.flatten(), ignore_index=IGNORE_INDEX))
