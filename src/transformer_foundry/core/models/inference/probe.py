"""Calls of a model with made-up ids, repeatable to the bit, from which its contract is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from transformer_foundry.core.models.inference.call import call_arguments, pick_logits
from transformer_foundry.core.models.model_errors import running_model_code

if TYPE_CHECKING:
    from transformer_foundry.core.models.contract import Contract

__all__ = ["Probe", "model_file", "same"]

# Relative to the largest value: float32 noise of a forward pass is near 1e-6, the influence of a token above 1e-4.
TOLERANCE = 1e-5
# More different ids than a probe has tokens.
MOST_IDS = 4096


@dataclass(frozen=True)
class Probe:
    """A model, what is known of its contract so far, and a shape in which it runs.

    Attributes:
        model: The model, in eval mode.
        contract: The contract as far as it is known.
        batch: Number of sequences B.
        length: Tokens in a sequence T; the decoder of an encoder-decoder gets as many.
        weights: Parameters to use instead of the model's own, by name.
    """

    model: nn.Module
    contract: Contract
    batch: int = 3
    length: int = 7
    weights: Mapping[str, Tensor] | None = None

    def knowing(self, **changes: Any) -> Probe:
        """Return the same probe with more known of the contract."""
        return replace(self, contract=replace(self.contract, **changes))

    def ids(self, seed: int = 0, *, decoder: bool = False, length: int | None = None) -> Tensor:
        """Return (B, T) int64 ids drawn from the vocabulary, none of them a special token if that can be."""
        usable = self._usable_ids(decoder)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(usable), (self.batch, length or self.length), generator=generator)
        ids = torch.tensor(usable)[chosen].to(self.device)
        return ids if decoder else self.contract.ended(ids)

    def with_other_token(self, ids: Tensor, position: int, *, decoder: bool = False) -> Tensor:
        """Return ``ids`` with another token at ``position`` of each sequence."""
        first, second = (self._usable_ids(decoder) * 2)[:2]
        other = ids.clone()
        other[:, position] = torch.where(ids[:, position] == first, second, first)
        return other

    def _usable_ids(self, decoder: bool) -> list[int]:
        contract = self.contract
        size = (contract.decoder_vocab_size if decoder else None) or contract.vocab_size
        special = {
            contract.pad_token_id, contract.bos_token_id, contract.eos_token_id,
            contract.mask_token_id, contract.decoder_start_token_id,
        }  # fmt: skip
        usable = [token for token in range(min(size, MOST_IDS)) if token not in special]
        # Where nothing else is left, not the end of a text: some classifiers run only on texts with one.
        return usable if len(usable) > 1 else [token for token in range(size) if token != contract.eos_token_id]

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def run(self, input_ids: Tensor, decoder_ids: Tensor | None = None, **tensors: Tensor | None) -> Any:
        """Return what the model returns; its random numbers are the same on every call.

        Raises:
            ModelError: If the model raises, with the line.
        """
        if self.contract.decoder_ids_argument and decoder_ids is None:
            decoder_ids = self.ids(1, decoder=True, length=input_ids.shape[1])
        arguments = call_arguments(self.contract, input_ids, decoder_input_ids=decoder_ids, **tensors)
        return self.call(arguments)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call the model with ``arguments``, its errors explained."""
        torch.manual_seed(0)
        shape = tuple(arguments[self.contract.ids_argument].shape)
        with running_model_code(f"logits for token ids of shape {shape}", model_file(self.model)):
            if self.weights:
                return functional_call(self.model, dict(self.weights), kwargs=dict(arguments))
            return self.model(**arguments)

    def logits(self, input_ids: Tensor, decoder_ids: Tensor | None = None, **tensors: Tensor | None) -> Tensor:
        """Return the logits of one call, as float32."""
        return pick_logits(self.contract, self.run(input_ids, decoder_ids, **tensors)).float()


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two results are equal but for rounding; what is not a number equals nothing."""
    if first.shape != second.shape:
        return False
    finite = torch.isfinite(first) & torch.isfinite(second)
    if not torch.equal(first[~finite], second[~finite]):
        return False
    first, second = first[finite], second[finite]
    if first.numel() == 0:
        return True
    scale = max(float(first.abs().max()), 1e-3)
    return float((first - second).abs().max()) <= TOLERANCE * scale


def model_file(model: nn.Module) -> str | None:
    """Return the file that defines the model: of its class, or of the first of its parts that torch does not define."""
    for module in model.modules():
        code = getattr(type(module).forward, "__code__", None)
        if code is not None and not type(module).__module__.startswith("torch."):
            return str(code.co_filename)
    return None
