"""Check that optional inputs have an effect."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.models.inference.call import call_arguments, pick_logits

__all__ = ["call_with", "check_optional_inputs", "optional_arguments"]

TYPES = re.compile(r"(token_type|segment|sentence|type)_?(ids?|labels?)?s?")
# Names that mean an index only if the model has a table of that name.
INDICES = re.compile(r"(seg|turn|speaker|role|language|lang|domain|step|task|level)s?_?(ids?|labels?|idx)?s?")
POSITIONS = re.compile(r"(position|pos)_?(ids|indices|idx)?")
TYPE_COUNTS = ("type_vocab_size", "num_token_types", "num_segments", "n_segments")


def check_optional_inputs(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that types of tokens and positions that forward accepts change the output."""
    if subject.contract.batch_argument is not None:
        return
    inputs = subject.inputs()
    for name in optional_arguments(subject):
        if _selects_a_row(subject, name) and 0 not in (subject.config.get(key) for key in TYPE_COUNTS):
            values = torch.zeros_like(inputs.ids)
            other = values.clone()
            other[:, inputs.ids.shape[1] // 2 :] = 1
        elif POSITIONS.fullmatch(name) and _learns_positions(subject):
            values = torch.arange(inputs.ids.shape[1]).expand_as(inputs.ids)
            other = values.flip(1)
        else:
            continue
        with generic_weights(subject.model):
            first, second = (call_with(subject, inputs, {name: given}) for given in (values, other))
        if first is not None and second is not None and torch.equal(first[0], second[0]):
            yield finding_at(
                "ignored input",
                "warning",
                f"forward accepts {name}, but it has no effect: two different values give the same logits bit for "
                "bit. A caller that passes it gets a model without that information.",
                subject.locator.forward(),
                f"use {name} (look it up in its table and add it), or remove it from forward.",
            )


def optional_arguments(subject: ModelUnderTest) -> list[str]:
    """Return the optional arguments of forward that the contract gives no role."""
    contract = subject.contract
    roles = {
        contract.ids_argument, contract.mask_argument, contract.decoder_ids_argument, contract.labels_argument,
        contract.decoder_mask_argument, *(name for name, value in contract.fixed_arguments if value == "ids"),
    }  # fmt: skip
    parameters = inspect.signature(subject.model.forward).parameters.values()
    return [item.name for item in parameters if item.default is not item.empty and item.name not in roles]


def _selects_a_row(subject: ModelUnderTest, name: str) -> bool:
    """Return whether an argument is an index of a table: by its name, or by a table with such a name."""
    if TYPES.fullmatch(name):
        return True
    tables = [path for path, table in subject.submodules(nn.Embedding) if table.num_embeddings > 1]
    return bool(INDICES.fullmatch(name)) and any(name[:3] in path.lower() for path in tables)


def _learns_positions(subject: ModelUnderTest) -> bool:
    """Return whether the order of positions must matter: not where a model has none."""
    return subject.contract.max_length is not None


def call_with(subject: ModelUnderTest, inputs: Inputs, given: dict[str, Any]) -> tuple[Tensor, Any] | None:
    """Return the logits and the whole output; None when the model refuses the argument."""
    arguments = call_arguments(subject.contract, inputs.ids, inputs.mask, inputs.decoder_ids)
    try:
        with torch.no_grad():
            output = subject.model(**{**arguments, **given})
        return pick_logits(subject.contract, output).detach().clone(), output
    except Exception:  # A probe with an argument of unknown form: the model's code may raise anything.
        return None
