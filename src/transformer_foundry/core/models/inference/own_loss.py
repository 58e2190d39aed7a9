"""The terms that a model adds to its loss itself, such as the balance of experts and the z-loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.inference.call import call_arguments, pick_logits
from transformer_foundry.core.models.inference.output_format import find_loss, find_terms
from transformer_foundry.core.models.side_effects import no_side_effects

__all__ = ["OwnTerms", "find_own_terms", "own_loss_of"]

_SMALLEST_SHARE = 1e-4  # of the model's loss: two ways to compute cross-entropy differ by 1e-6
_OTHER_LABELS = 1e-3  # largest change of the terms with the labels, as a share of the terms
_ROUNDING = 1e-5  # of the model's loss
_MODEL_INPUTS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
_OTHER_LOSSES = ("regression", "multi_label_classification")


@dataclass(frozen=True)
class OwnTerms:
    """How the terms of a model's own loss are computed.

    A model that takes labels returns cross-entropy and its terms in one number. As the terms do not depend on the
    labels, these are one ordinary label everywhere, and cross-entropy with the same labels is subtracted.

    Attributes:
        takes_labels: Whether the loss is one of labels; otherwise the model returns the terms alone.
        shifts_labels: Whether it compares position t with label t + 1.
        label: The label of every position.
    """

    takes_labels: bool
    shifts_labels: bool = False
    label: int = 0

    def labels_like(self, labels: Tensor) -> Tensor | None:
        """Return the labels for the call of the model, shaped as those of the batch; None if it takes none."""
        return torch.full_like(labels, self.label) if self.takes_labels else None

    def of(self, logits: Tensor, own_loss: Tensor) -> Tensor:
        """Return the terms, a scalar, given the logits (B, T, V) or (B, C) and the loss of the same call."""
        own_loss = own_loss.float().reshape(())
        if not self.takes_labels:
            return own_loss
        if self.shifts_labels:
            logits = logits[:, :-1]
        rows = logits.shape[:-1].numel()
        labels = torch.full((rows,), self.label, dtype=torch.int64, device=own_loss.device)
        # In the form that a loss in chunks knows.
        flat = logits.reshape(-1, logits.size(-1)).float()
        return own_loss - F.cross_entropy(flat, labels, reduction="sum") / rows


def own_loss_of(output: Any, *, takes_labels: bool) -> Tensor:
    """Return the loss in the output of a model, or the sum of the terms that it returns without labels.

    Raises:
        TrainingError: If there is none.
    """
    terms = list(find_terms(output).values())
    loss = (
        find_loss(output)
        if takes_labels
        else torch.stack([term.reshape(()) for term in terms]).sum()
        if terms
        else None
    )
    if loss is None:
        raise TrainingError(
            "The model returns no loss of its own in this call.",
            "Expected the one that it returned for the first batch.",
            "Set training.model_loss=ours to train without it.",
        )
    return loss


def find_own_terms(
    adapter: nn.Module, batch: Mapping[str, Tensor], wanted: str = "auto"
) -> tuple[OwnTerms | None, str | None]:
    """Return how the model's own terms are computed, and a sentence about them; the model is called a few times.

    Args:
        adapter: An ``Adapter``; a module without a contract has no known terms.
        batch: The first batch of the training, on the model's device.
        wanted: ``auto``, ``own`` (there must be terms) or ``ours`` (none are looked for).

    Raises:
        TrainingError: If ``wanted`` is ``own`` and there are no terms, or they cannot be told from cross-entropy.
    """
    contract: Contract | None = getattr(adapter, "contract", None)
    if wanted == "ours" or contract is None:
        return None, None
    takes_labels = contract.computes_loss and contract.labels_argument is not None
    if contract.next_token_only or (takes_labels and contract.task in _OTHER_LOSSES):
        what = "a model of the next token only" if contract.next_token_only else contract.task
        found, line, is_news = None, f"for {what} the loss of the model is not compared with Foundry's", False
    else:
        found, line, is_news = _look(adapter, contract, batch, takes_labels=takes_labels)
    if found is None and wanted == "own":
        raise TrainingError(
            f"training.model_loss is own, but {line}.",
            "Expected a loss of the model's own with terms beyond cross-entropy, which do not depend on the labels.",
            "Set training.model_loss to auto or ours, or return such a loss in model.py.",
        )
    if found is None:
        return None, f"{line[0].upper()}{line[1:]}: it is not used." if is_news else None
    return found, line


def _look(
    adapter: nn.Module, contract: Contract, batch: Mapping[str, Tensor], *, takes_labels: bool
) -> tuple[OwnTerms | None, str, bool]:
    """Return the terms, a sentence about them or the reason why there are none, and whether the user should know it."""
    first, second = (
        OwnTerms(takes_labels, contract.loss_shift == "shifted", label) for label in _ordinary_labels(contract)
    )
    measured = _measure(adapter, contract, batch, first)
    if measured is None:
        return None, "the model returns no loss", False
    own_loss, value, has_gradient, names = measured
    if takes_labels:
        other = _measure(adapter, contract, batch, second)
        assert other is not None, "a loss for one label and none for another"
        if other[0] == own_loss:  # it does not depend on the labels: the terms alone
            return _look(adapter, contract, batch, takes_labels=False)
        if abs(other[1] - value) > _OTHER_LABELS * abs(value) + _ROUNDING * abs(own_loss):
            return None, "the loss that the model returns differs from cross-entropy in more than added terms", True
    if not has_gradient or not abs(value) > _SMALLEST_SHARE * abs(own_loss):
        return None, "the loss that the model returns is cross-entropy alone", False
    named = f" ({short_list(names)})" if names else ""
    line = (
        f"The model's own loss has terms beyond cross-entropy{named}, {value:.4g} on the first batch: they are added to"
    )
    return first, f"{line} the loss. training.model_loss=ours leaves them out.", True


def _measure(
    adapter: nn.Module, contract: Contract, batch: Mapping[str, Tensor], candidate: OwnTerms
) -> tuple[float, float, bool, list[str]] | None:
    """Return the model's loss, its terms, whether they have a gradient, and their names; None without a loss."""
    inputs = {name: batch[name] for name in _MODEL_INPUTS if name in batch}
    with no_side_effects(adapter, train=True), torch.enable_grad():
        arguments = call_arguments(contract, **inputs, labels=candidate.labels_like(batch["labels"]))
        output = adapter.get_submodule("model")(**arguments)
        if not find_terms(output) and not (candidate.takes_labels and find_loss(output) is not None):
            return None
        own_loss = own_loss_of(output, takes_labels=candidate.takes_labels)
        terms = candidate.of(pick_logits(contract, output), own_loss)
    return float(own_loss.detach()), float(terms.detach()), terms.requires_grad, _names(output)


def _names(output: Any) -> list[str]:
    """Return the names of the terms; the only number in a tuple has none."""
    return [name for name in find_terms(output) if "loss" in name]


def _ordinary_labels(contract: Contract) -> list[int]:
    """Return two labels without a special meaning, which a loss does not ignore."""
    special = {contract.pad_token_id, contract.bos_token_id, contract.eos_token_id, contract.mask_token_id, 0}
    usable = [label for label in range(contract.output_size) if label not in special]
    return (usable * 2)[:2] or [0, 0]
