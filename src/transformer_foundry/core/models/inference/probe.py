"""Call a model with made-up ids, reproducibly to the bit; find a first call that works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.inference.argument_roles import Roles
from transformer_foundry.core.models.inference.call import CAUSAL_FORMS, call_arguments, pick_logits
from transformer_foundry.core.models.inference.output_format import float_tensors
from transformer_foundry.core.models.model_errors import running_model_code

__all__ = ["Probe", "first_probe", "model_file", "same", "works_at"]

# Relative to the largest value: float32 noise of a forward pass is near 1e-6, the influence of a token above 1e-4.
TOLERANCE = 1e-5
# More distinct ids than a probe has tokens.
MOST_IDS = 4096
# (batch, length). Three sequences, since two could be confused with two heads. The later shapes find models that run in
# one shape only; the checks report those.
SHAPES = ((3, 7), (3, 3), (1, 7), (8, 7), (4, 8), (16, 8), (32, 8))
LONGEST_FIRST_CALL = 1024
# Ids below this fit any token embedding; token types, whose embedding may have two rows, get no random ids.
SAFE_VOCABULARY = 4
MASK_FORMS = (("real", "int64"), ("real", "bool"), ("padding", "bool"))


@dataclass(frozen=True)
class Probe:
    """A model, the known part of its contract, and a shape in which it runs.

    Attributes:
        model: The model, in eval mode.
        contract: The contract, as far as it is known.
        batch: Number of sequences B.
        length: Tokens T in a sequence; the decoder of an encoder-decoder gets the same number.
        weights: Parameters to use instead of the model's own, by name.
    """

    model: nn.Module
    contract: Contract
    batch: int = 3
    length: int = 7
    weights: Mapping[str, Tensor] | None = None

    def with_contract(self, **changes: Any) -> Probe:
        """Return the probe with these fields of its contract changed."""
        return replace(self, contract=replace(self.contract, **changes))

    def ids(self, seed: int = 0, *, decoder: bool = False, length: int | None = None) -> Tensor:
        """Return (B, T) int64 ids drawn from the vocabulary, without special tokens if possible."""
        usable = self._usable_ids(decoder)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(usable), (self.batch, length or self.length), generator=generator)
        ids = torch.tensor(usable)[chosen].to(self.device)
        return ids if decoder else self.contract.end_with_eos(ids)

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
        # If only special tokens are left, all but the end of text: some classifiers run only on texts with exactly one.
        return usable if len(usable) > 1 else [token for token in range(size) if token != contract.eos_token_id]

    @property
    def device(self) -> torch.device:
        """Device of the model's weights."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def run(self, input_ids: Tensor, decoder_ids: Tensor | None = None, **tensors: Tensor | None) -> Any:
        """Call the model with the same random numbers on every call, and return its output.

        Raises:
            ModelError: If the model raises; names the line.
        """
        if self.contract.decoder_ids_argument and decoder_ids is None:
            decoder_ids = self.ids(1, decoder=True, length=input_ids.shape[1])
        arguments = call_arguments(self.contract, input_ids, decoder_input_ids=decoder_ids, **tensors)
        torch.manual_seed(0)
        shape = tuple(input_ids.shape)
        with running_model_code(f"logits for token ids of shape {shape}", model_file(self.model)):
            if self.weights:
                return functional_call(self.model, dict(self.weights), kwargs=dict(arguments))
            return self.model(**arguments)

    def logits(self, input_ids: Tensor, decoder_ids: Tensor | None = None, **tensors: Tensor | None) -> Tensor:
        """Return the logits of one call in float32."""
        return pick_logits(self.contract, self.run(input_ids, decoder_ids, **tensors)).float()


def first_probe(model: nn.Module, roles: Roles, config: Mapping[str, Any], batch_argument: str | None = None) -> Probe:
    """Return the first probe that runs ``model``; ``batch_argument`` takes all inputs as one mapping.

    Raises:
        ModelError: If no call works; the failure of the most likely one.
    """
    limit = config_hints.max_length_hint(config)
    whole = ((3, limit), (1, limit)) if limit is not None and limit <= LONGEST_FIRST_CALL else ()
    failure: ModelError | None = None
    unlikely: Probe | None = None
    for number, draft in enumerate(_drafts(roles)):
        for sized in _sized(replace(draft, batch_argument=batch_argument), config):
            if sized.ends_with_eos and sized.eos_token_id is None:
                continue
            # Unusual shapes are not tried together with unusual masks.
            for batch, length in (*SHAPES, *whole) if number == 0 else SHAPES[:1]:
                probe = Probe(model, sized, batch, length)
                try:
                    if _may_hold_logits(probe, probe.run(probe.ids())):
                        return probe
                    unlikely = unlikely or probe
                except ModelError as err:
                    failure = failure or err
    if unlikely is not None:
        return unlikely
    raise failure or AssertionError("no call was tried")


def _may_hold_logits(probe: Probe, output: Any) -> bool:
    """Return whether a tensor has a row of numbers for each id or each text: a wrong mask can add a dimension."""
    starts = (probe.batch, probe.length)
    return any(part.dim() in (2, 3) and part.shape[0] in starts for part in float_tensors(output))


def works_at(probe: Probe, length: int) -> bool:
    """Return whether the model runs on sequences of ``length`` tokens."""
    try:
        probe.run(probe.ids(length=length))
    except ModelError:
        return False
    return True


def same(first: Tensor, second: Tensor) -> bool:
    """Return whether two results are equal up to rounding; a NaN equals nothing."""
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
    """Return the file of the model's class, or of its first submodule that torch does not define."""
    for module in model.modules():
        code = getattr(type(module).forward, "__code__", None)
        if code is not None and not type(module).__module__.startswith("torch."):
            return str(code.co_filename)
    return None


def _sized(draft: Contract, config: Mapping[str, Any]) -> Iterator[Contract]:
    """Yield the draft with the stated vocabulary, then with one that is small enough for any embedding."""
    stated = config_hints.vocabulary_hint(config) or SAFE_VOCABULARY
    for size in dict.fromkeys((stated, SAFE_VOCABULARY)):
        decoder_size = min(config_hints.vocabulary_hint(config, decoder=True) or size, size)
        sized = replace(draft, vocab_size=size, decoder_vocab_size=decoder_size)
        yield sized.with_special_tokens(config_hints.special_tokens(config, size))


def _drafts(roles: Roles) -> Iterator[Contract]:
    """Yield contracts by signature alone; several if ``forward`` requires masks, whose form is not known yet.

    A required mask is None if that works, otherwise all ones in some form, otherwise a (T, T) mask.
    """
    draft = Contract(
        kind="encoder-decoder" if roles.decoder_ids else "",
        task="",
        ids_argument=roles.ids,
        vocab_size=0,
        output_size=0,
        mask_argument=roles.mask,
        decoder_ids_argument=roles.decoder_ids,
        decoder_mask_argument=roles.decoder_mask,
        labels_argument=roles.labels,
        fixed_arguments=_fixed_arguments(roles),
    )
    required = roles.required_masks
    yield draft.with_fixed_arguments(required, "none")
    yield replace(draft.with_fixed_arguments(required, "none"), ends_with_eos=True)
    if not required:
        return
    padding = tuple(name for name in required if name in (roles.mask, roles.decoder_mask))
    others = [name for name in required if name not in padding]
    for dims in (2, 4, 3):
        for meaning, dtype in MASK_FORMS:
            formed = replace(draft, mask_meaning=meaning, mask_dtype=dtype, mask_dims=dims)
            yield replace(formed.with_fixed_arguments(others, "none"), required_masks=padding)
            for form in CAUSAL_FORMS if roles.decoder_ids and roles.mask in required else ():
                source_only = replace(formed, decoder_mask_argument=None, required_masks=(str(roles.mask),))
                yield source_only.with_fixed_arguments([name for name in required if name != roles.mask], form)
    for form in CAUSAL_FORMS:
        yield replace(draft, mask_argument=None, decoder_mask_argument=None).with_fixed_arguments(required, form)


def _fixed_arguments(roles: Roles) -> tuple[tuple[str, str], ...]:
    fixed: list[tuple[str | None, str]] = [
        (roles.use_cache, "false"),
        (roles.token_types if roles.token_types in roles.required else None, "zeros"),
        (roles.positions if roles.positions in roles.required else None, "positions"),
        (roles.start if roles.start in roles.required else None, "zero"),
        (roles.labels if roles.labels in roles.required else None, "ids"),
        (roles.memory_mask, "mask_or_none" if roles.memory_mask in roles.required else "mask"),
    ]
    return tuple((name, value) for name, value in fixed if name is not None)
