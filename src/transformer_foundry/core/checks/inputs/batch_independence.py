"""Check that the samples of a batch do not influence each other."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import ABSOLUTE_NOISE
from transformer_foundry.core.checks.probing.localize import locate_change
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights

__all__ = ["check_batch_independence"]

# Another batch size runs other kernels, which round differently; mixed samples differ far more.
RELATIVE_TOLERANCE = 1e-3
BATCH = 3
# The sample in the middle: a recurrence along the batch may run forwards or backwards.
KEPT, OTHERS = 1, [0, 2]


def check_batch_independence(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the output of a sample is the same with other samples in its batch, and when it is alone."""
    with generic_weights(subject.model):
        for training in (False, True):
            first = subject.inputs(batch=BATCH, seed=3)
            second = _with_other_samples(first, subject.inputs(batch=BATCH, seed=4))
            base = subject.logits(first, training=training)
            moved = subject.logits(second, training=training)
            own, foreign = float((moved - base)[OTHERS].abs().max()), float((moved - base)[KEPT].abs().max())
            if training and any("expert" in str(key) for key in subject.config):
                continue  # Experts of a mixture have a limited capacity for the tokens of a batch, by design.
            if foreign > max(ABSOLUTE_NOISE, RELATIVE_TOLERANCE * own):
                subject.mixes_samples = not training
                yield _mixed(subject, first, second, own, foreign, training)
                return
        alone = subject.logits(first.rows(slice(KEPT, KEPT + 1)))
        together = subject.logits(first)[KEPT : KEPT + 1]
        difference = float((alone - together).abs().max())
        if difference > max(ABSOLUTE_NOISE, RELATIVE_TOLERANCE * own):
            yield _mixed(subject, first, second, own, difference, False, "when it is alone in its batch")


def _with_other_samples(first: Inputs, other: Inputs) -> Inputs:
    """Return ``first`` with every sample but one replaced by that of ``other``."""

    def mix(left: Tensor | None, right: Tensor | None) -> Tensor | None:
        if left is None or right is None:
            return None
        mixed = right.clone()
        mixed[KEPT] = left[KEPT]
        return mixed

    ids = mix(first.ids, other.ids)
    assert ids is not None
    return Inputs(ids, None, mix(first.decoder_ids, other.decoder_ids))


def _mixed(
    subject: ModelUnderTest,
    first: Inputs,
    second: Inputs,
    own: float,
    foreign: float,
    training: bool,
    when: str = "when the other samples of its batch are replaced",
) -> Finding:
    def differs(left: Tensor, right: Tensor) -> bool:
        axis = next((axis for axis in (0, 1) if left.ndim > axis + 1 and left.shape[axis] == BATCH), None)
        if axis is None:
            return False
        change = (left - right).abs().movedim(axis, 0).reshape(BATCH, -1).amax(dim=1)
        return float(change[KEPT]) > max(1e-6, 1e-4 * float(change.max()))

    location, _ = locate_change(subject, first, second, differs, training=training)
    location = location or subject.locator.forward()
    mode = " in training mode" if training else ""
    return finding_at(
        "batch independence",
        "error",
        f"The samples of a batch influence each other{mode}: the output of one sample changes by {foreign:.2g} {when} "
        f"(theirs changes by {own:.2g}). The result for a text must not depend on which other texts are in the batch.",
        location,
        "keep the batch axis first: batch_first=True for torch's attention and transformer layers; normalize over "
        "the last axis only (LayerNorm, not BatchNorm).",
    )
