"""Arguments of a model's call and the logits in its output, according to its contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["CAUSAL_FORMS", "call_arguments", "express_mask", "pick_logits"]

# core.models.contract.Contract, or anything with its attributes: a package contains only this file, and transformers
# requires that everything it imports is installed, even imports for type checkers.
Contract: TypeAlias = Any

# Values of Contract.fixed_arguments.
CONSTANTS: Mapping[str, Any] = {"none": None, "false": False, "zero": 0}
SAME_MASK = ("mask", "mask_or_none")
CAUSAL_FORMS = (
    "causal_blocked", "causal_allowed", "causal_additive", "causal_allowed_rows", "causal_blocked_rows",
)  # fmt: skip
MASK_DTYPES: Mapping[str, torch.dtype] = {"int64": torch.int64, "bool": torch.bool, "float32": torch.float32}


def call_arguments(
    contract: Contract,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    decoder_input_ids: Tensor | None = None,
    decoder_attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of one call of the model.

    Args:
        contract: The contract of the model.
        input_ids: (B, T) int64 token ids.
        attention_mask: (B, T) int64, 1 where a token is real; None if all are.
        decoder_input_ids: (B, S) int64 ids for the decoder of an encoder-decoder.
        decoder_attention_mask: (B, S) int64, 1 where a decoder token is real.
        labels: Labels; ignored if the model takes none.
    """
    arguments: dict[str, Any] = {contract.ids_argument: input_ids}
    if contract.decoder_ids_argument and decoder_input_ids is not None:
        arguments[contract.decoder_ids_argument] = decoder_input_ids
    for name, value in contract.fixed_arguments:
        if value not in SAME_MASK:
            arguments[name] = _fixed_value(value, input_ids, decoder_input_ids)
    for argument, mask, ids in (
        (contract.mask_argument, attention_mask, input_ids),
        (contract.decoder_mask_argument, decoder_attention_mask, decoder_input_ids),
    ):
        if mask is None and argument in contract.required_masks and ids is not None:
            mask = torch.ones_like(ids)
        if argument is not None and mask is not None:
            arguments[argument] = express_mask(mask, contract.mask_meaning, contract.mask_dtype, contract.mask_dims)
    for name, value in contract.fixed_arguments:
        if value in SAME_MASK and (value == "mask_or_none" or contract.mask_argument in arguments):
            arguments[name] = arguments.get(str(contract.mask_argument))
    if labels is not None and contract.labels_argument:
        arguments[contract.labels_argument] = labels
    return arguments


def express_mask(mask: Tensor, meaning: str | None, dtype: str = "int64", dims: int = 2) -> Tensor:
    """Return a (B, T) mask in the form that a model expects.

    Args:
        mask: (B, T), 1 where a token is real.
        meaning: ``real`` keeps it, ``padding`` inverts it.
        dtype: ``int64``, ``bool`` or ``float32``.
        dims: 2 for (B, T), 3 for (B, 1, T), 4 for (B, 1, 1, T).
    """
    expressed = (mask == 0 if meaning == "padding" else mask != 0).to(MASK_DTYPES[dtype])
    for _ in range(dims - 2):
        expressed = expressed.unsqueeze(1)
    return expressed


def pick_logits(contract: Contract, output: Any) -> Tensor:
    """Return the logits in the output of the model."""
    logits: Tensor = output
    if contract.output == "attribute":
        logits = getattr(output, str(contract.logits_key))
    elif contract.output != "tensor":
        logits = output[contract.logits_key]
    return logits


def _fixed_value(value: str, input_ids: Tensor, decoder_ids: Tensor | None) -> Any:
    if value in CONSTANTS:
        return CONSTANTS[value]
    if value == "zeros":
        return torch.zeros_like(input_ids)
    if value == "positions":
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    if value == "ids":
        return input_ids
    return _causal_mask(value, input_ids if decoder_ids is None else decoder_ids)


def _causal_mask(form: str, ids: Tensor) -> Tensor:
    """Return a causal mask: (T, T), or (B, T, T) if the form ends in ``rows``."""
    batch, length = ids.shape
    blocked = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
    if form == "causal_additive":
        return torch.zeros(length, length, device=ids.device).masked_fill(blocked, float("-inf"))
    mask = blocked if form.startswith("causal_blocked") else ~blocked
    return mask.expand(batch, length, length) if form.endswith("rows") else mask
