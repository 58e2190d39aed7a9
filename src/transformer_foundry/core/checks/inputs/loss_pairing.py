"""Check that a model's own loss compares each text with its own label."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import record_calls
from transformer_foundry.core.models.inference.call import call_arguments
from transformer_foundry.core.models.inference.output_format import find_loss

__all__ = ["check_loss_pairing"]

SAMPLES = 4
# Sums in another order round differently.
SAME = 1e-5
LOSSES = {
    "mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss", "huber_loss", "HuberLoss",
    "cross_entropy", "CrossEntropyLoss", "nll_loss", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss",
}  # fmt: skip


def check_loss_pairing(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the model's own loss changes when two texts of a batch exchange their labels."""
    if not subject.contract.computes_loss or subject.mixes_samples or subject.contract.task == "seq2seq_lm":
        return  # A decoder may make its inputs from the labels, which then move too.
    inputs = subject.inputs(batch=SAMPLES)
    with generic_weights(subject.model):
        spread = float(subject.logits(inputs).std(dim=0).max())
        for labels in _labels(subject, inputs):
            found = [_loss(subject, inputs, item) for item in (labels, labels.roll(1, 0), labels.flip(0))]
            if any(loss is None or not loss.isfinite().all() for loss in found):
                continue
            losses = [loss for loss in found if loss is not None]
            # One loss for each text keeps its order; their sum is what training minimizes.
            if any(loss.ndim for loss in losses) or not spread > 1e-3:
                return
            first, *others = (float(loss) for loss in losses)
            if all(abs(other - first) <= SAME * max(abs(first), 1e-3) for other in others):
                yield _finding(subject, inputs, labels, first)
            return


def _labels(subject: ModelUnderTest, inputs: Inputs) -> Iterator[Tensor]:
    """Yield labels in the forms that a loss may want: token ids, classes, numbers."""
    size = subject.contract.output_size
    if subject.labels_positions:
        yield inputs.target % size
        return
    if size > 1:
        yield torch.arange(SAMPLES) % size
    yield torch.tensor([0.5, -1.0, 2.0, 0.25])[:SAMPLES]
    yield torch.arange(SAMPLES)


@torch.no_grad()
def _loss(subject: ModelUnderTest, inputs: Inputs, labels: Tensor) -> Tensor | None:
    arguments = call_arguments(subject.contract, inputs.ids, decoder_input_ids=inputs.decoder_ids, labels=labels)
    subject.model.eval()
    try:
        return find_loss(subject.model(**arguments))
    except Exception:  # Labels of another form than the model wants: its code may raise anything.
        return None


def _finding(subject: ModelUnderTest, inputs: Inputs, labels: Tensor, loss: float) -> Finding:
    with record_calls(subject.model, subject.source) as record:
        _loss(subject, inputs, labels)
    size = subject.contract.output_size
    pairs = [call for call in record.operations if _is_broadcast([tensor.shape for tensor in call.inputs])]
    step = next((call for call in pairs if call.line is not None), None)
    shapes = f" {step.name} combines {' and '.join(str(tuple(item.shape)) for item in step.inputs)}." if step else ""
    return finding_at(
        "loss",
        "error",
        f"The loss does not depend on which label belongs to which text: it stays {loss:.4g} when the {SAMPLES} texts "
        f"of a batch exchange their labels. Every text is compared with every label, so the model learns their "
        f"mean.{shapes}",
        subject.locator.at(step.line, step.module) if step is not None else subject.locator.call_of(LOSSES),
        "give logits and labels the same shape before they are compared: F.mse_loss(logits.squeeze(-1), labels)."
        if size == 1
        else "compare row i of the logits with label i: F.cross_entropy(logits, labels) over the last axis.",
    )


def _is_broadcast(shapes: list[torch.Size]) -> bool:
    """Return whether (B, 1) meets (B,) or (1, B), so that the result is (B, B)."""
    columns = [shape for shape in shapes if len(shape) >= 2 and shape[-2:] == (SAMPLES, 1)]
    rows = [shape for shape in shapes if shape and shape[-1] == SAMPLES and (len(shape) == 1 or shape[-2] == 1)]
    return bool(columns and rows)
