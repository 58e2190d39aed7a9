"""One pass as in training: the logits, Foundry's loss and the model's own, and the gradients of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.checks.probing.trace import graph_tensors
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.inference.call import call_arguments
from transformer_foundry.core.models.inference.output_format import find_loss

__all__ = ["TrainingPass", "gradients_of", "has_own_loss", "training_pass"]


@dataclass(frozen=True)
class TrainingPass:
    """What one forward pass gives.

    Attributes:
        logits: In the format of the run.
        loss: Sum of Foundry's cross-entropy and of the model's own loss, a scalar.
        own_loss: The loss that the model returns, a scalar; None if it was not asked for.
    """

    logits: Tensor
    loss: Tensor
    own_loss: Tensor | None = None

    @property
    def results(self) -> list[Tensor]:
        """The logits and the model's own loss."""
        return [self.logits] if self.own_loss is None else [self.logits, self.own_loss]


def training_pass(
    subject: ModelUnderTest, inputs: Inputs, *, labeled: Tensor | None = None, with_own_loss: bool = False
) -> TrainingPass:
    """Return the result of one forward pass, in the current modes.

    Args:
        subject: The model.
        inputs: The tensors of the call.
        labeled: The (B, S) positions that have a label; None for all.
        with_own_loss: Whether to pass labels too (``has_own_loss`` says whether that works).

    Raises:
        Exception: Whatever the code of the model raises.
    """
    if not with_own_loss:
        logits: Tensor = subject.adapter(inputs.ids, inputs.mask, inputs.decoder_ids)
        return TrainingPass(logits, _cross_entropy(logits, labeled))
    arguments: dict[str, Any] = call_arguments(
        subject.contract, inputs.ids, inputs.mask, inputs.decoder_ids, labels=_labels(subject, inputs, labeled)
    )
    output = subject.model(**arguments)
    own, found = find_loss(output), _find_logits(output, subject.contract.output_size)
    assert own is not None
    assert found is not None
    loss = own.float()
    if not subject.contract.time_first:  # Its axes differ from those of the labels.
        loss = loss + _cross_entropy(found, labeled)
    return TrainingPass(found, loss, own)


def has_own_loss(subject: ModelUnderTest) -> bool:
    """Return whether the model returns a finite loss with a gradient, and logits, for ordinary labels."""
    if not subject.contract.computes_loss:
        return False
    try:
        with torch.enable_grad():
            result = training_pass(subject, subject.inputs(batch=2), with_own_loss=True)
    except Exception:  # With other labels than its own task has, the model's code may raise anything.
        return False
    return bool(result.loss.isfinite()) and result.own_loss is not None and result.own_loss.requires_grad


def gradients_of(subject: ModelUnderTest, loss: Tensor) -> list[Tensor]:
    """Return the gradients of the weights; none if the loss is not finite or has no gradient."""
    if not loss.requires_grad or not loss.isfinite():
        return []
    weights = [item for item in subject.model.parameters() if item.requires_grad]
    return [item for item in torch.autograd.grad(loss, weights, allow_unused=True) if item is not None]


def _cross_entropy(logits: Tensor, labeled: Tensor | None) -> Tensor:
    flat = logits.float().reshape(-1, logits.shape[-1])
    labels = torch.arange(len(flat)) % flat.shape[-1]
    if labeled is not None and logits.ndim == 3 and labeled.numel() == len(labels):
        labels[~labeled.flatten()] = IGNORE_INDEX
    return F.cross_entropy(flat, labels, ignore_index=IGNORE_INDEX)


def _labels(subject: ModelUnderTest, inputs: Inputs, labeled: Tensor | None) -> Tensor:
    size = subject.contract.output_size
    if not subject.labels_positions:
        return torch.arange(len(inputs.target)) % size
    labels = inputs.target % size
    return labels if labeled is None else labels.masked_fill(~labeled, IGNORE_INDEX)


def _find_logits(output: Any, size: int) -> Tensor | None:
    values = vars(output) if hasattr(output, "__dict__") and not isinstance(output, dict) else output
    tensors = graph_tensors(values)
    return next(
        (item for item in tensors if item.ndim >= 2 and item.shape[-1] == size and item.is_floating_point()), None
    )
