"""Recognize a drawn model as an architecture of transformers: describe it, propose, and accept only what is proved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from transformer_foundry.core.export.capture.torch_export import EXPORTER_ERRORS, private_copy
from transformer_foundry.core.export.native.description import Description, Unlike
from transformer_foundry.core.export.native.families.bart import bart, blenderbot, marian, mbart, pegasus
from transformer_foundry.core.export.native.families.candidate import Candidate, Needs, Sizes, Traits
from transformer_foundry.core.export.native.families.decoders import gpt2, gpt_neox, opt
from transformer_foundry.core.export.native.families.encoders import bert
from transformer_foundry.core.export.native.families.llama import llama, qwen2, qwen3
from transformer_foundry.core.export.native.families.t5 import t5
from transformer_foundry.core.export.native.proof import equals, quiet_transformers, randomize
from transformer_foundry.core.export.native.trace import record
from transformer_foundry.core.export.native.walk import describe
from transformer_foundry.core.export.verification.parity import LONGEST_UNLIMITED
from transformer_foundry.core.export.verification.reference_inputs import compared_by, reference_inputs

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["Recognition", "call_native", "recognize"]

_LOGGER = logging.getLogger(__name__)

# The recorded pass: sizes that the features of no usual model have.
_BATCH, _LENGTH, _DECODER_LENGTH = 3, 13, 11
# More conditions than these are no near miss.
_MOST_LACKS = 2

# By task of the contract; the first that is proved counts.
FAMILIES: Mapping[str, Sequence[Callable[[Description, Sizes], Candidate | Needs]]] = {
    "causal_lm": (opt, gpt2, qwen2, llama, qwen3, gpt_neox),
    "masked_lm": (bert,),
    "seq2seq_lm": (bart, mbart, blenderbot, pegasus, marian, t5),
    "token_classification": (bert,),
}


@dataclass(frozen=True)
class Recognition:
    """Which architecture a drawn model is.

    Attributes:
        candidate: The architecture with its configuration and weights; None if it is none of those known.
        reason: Why it is none, as a sentence without a full stop.
    """

    candidate: Candidate | None
    reason: str = ""


def recognize(adapter: Adapter, pad_token_id: int, token_ids: Mapping[str, int] | None = None) -> Recognition:
    """Return the architecture of transformers that a model is, whatever its weights.

    The model is recorded with random parameters; families propose a configuration and a mapping of weights by what was
    found; a proposal counts only if logits and gradients are equal for other random parameters at several shapes.

    Args:
        adapter: The model. It is not changed.
        pad_token_id: Id of padding.
        token_ids: Special tokens for the configuration, such as ``eos_token_id``.
    """
    contract = adapter.contract
    drawn = private_copy(adapter)
    if any(not item.is_floating_point() for item in drawn.parameters()):
        return Recognition(None, "it has parameters that are no floating-point numbers")
    sizes = Sizes(contract.max_length, _dropout(adapter), dict(token_ids or {}), contract.num_labels)
    try:
        randomize(drawn, seed=7)
        inputs = _recorded_inputs(adapter, pad_token_id)
        found = describe(record(drawn, inputs), inputs)
        if not all(Traits(stream).attentions for stream in (found.stream, found.encoder) if stream is not None):
            raise Unlike("it has no attention")
        proposals = [family(found, sizes) for family in FAMILIES.get(contract.task, ())]
    except Unlike as err:
        return Recognition(None, f"it is no known architecture of transformers: {err}")
    except EXPORTER_ERRORS as err:
        _LOGGER.debug("The model cannot be described.", exc_info=err)
        return Recognition(None, "its operations cannot be followed")
    problems = []
    for candidate in (item for item in proposals if isinstance(item, Candidate)):
        problem = _prove(drawn, candidate, adapter, pad_token_id)
        if not problem:
            return Recognition(candidate)
        problems.append(f"it looks like a {candidate.name}, but {problem}")
    lacking = sorted((item for item in proposals if isinstance(item, Needs)), key=lambda item: len(item.lacks))
    near = [str(item) for item in lacking[:1] if len(item.lacks) <= _MOST_LACKS]
    return Recognition(None, next(iter([*problems, *near]), "it is no known architecture of transformers"))


def call_native(native: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the logits of a model of transformers for the tensors of an ``Adapter``'s call."""
    logits: Tensor = native(**tensors).logits
    return logits


def _recorded_inputs(adapter: Adapter, pad_token_id: int) -> dict[str, Tensor]:
    contract = adapter.contract
    length = min(_LENGTH, contract.max_length or _LENGTH)
    inputs = {"input_ids": _ids(contract.vocab_size, pad_token_id, length, 1)}
    if contract.decoder_ids_argument is not None:
        length = min(_DECODER_LENGTH, contract.max_length or _DECODER_LENGTH)
        size = contract.decoder_vocab_size or contract.vocab_size
        inputs["decoder_input_ids"] = _ids(size, pad_token_id, length, 2)
    return inputs


def _ids(vocab_size: int, pad_token_id: int, length: int, seed: int) -> Tensor:
    choices = torch.tensor([number for number in range(vocab_size) if number != pad_token_id] or [0])
    generator = torch.Generator().manual_seed(seed)
    return choices[torch.randint(len(choices), (_BATCH, length), generator=generator)]


def _prove(drawn: nn.Module, candidate: Candidate, adapter: Adapter, pad_token_id: int) -> str:
    contract = adapter.contract
    make, compared = reference_inputs(contract, pad_token_id), compared_by(contract, pad_token_id)
    longest = contract.max_length or LONGEST_UNLIMITED
    shapes = dict.fromkeys((batch, min(length, longest)) for batch, length in ((4, 9), (1, 1), (1, longest), (1, 9)))
    calls: list[tuple[Mapping[str, Tensor], Tensor | None]] = []
    for batch, length in shapes:
        tensors = make(batch, length)
        mask = compared(tensors)
        calls.append((tensors, None if mask is None else mask.bool()))
    try:
        with quiet_transformers():
            return equals(drawn, candidate, calls, call_native)
    except EXPORTER_ERRORS as err:
        _LOGGER.debug("%s cannot be compared.", candidate.architecture, exc_info=err)
        return f"transformers refuses it ({type(err).__name__})"


def _dropout(module: nn.Module) -> float:
    rates = [part.p for part in module.modules() if isinstance(part, nn.Dropout)]
    return max(rates, default=0.0)
