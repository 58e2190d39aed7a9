"""Call a model with made-up ids, repeatably to the bit; find a first call that it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import config_hints
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.inference.argument_roles import Roles
from transformer_foundry.core.models.inference.call import CAUSAL_FORMS, call_arguments, pick_logits
from transformer_foundry.core.models.model_errors import running_model_code

__all__ = ["Probe", "first_probe", "model_file", "same", "works_at"]

# Relative to the largest value: float32 noise of a forward pass is near 1e-6, the influence of a token above 1e-4.
TOLERANCE = 1e-5
# More different ids than a probe has tokens.
MOST_IDS = 4096
# (batch, length). Three sequences: two would be mixed up with two heads. The later shapes find models that run in one
# shape only: what is wrong with that is for the checks to say.
SHAPES = ((3, 7), (3, 3), (1, 7), (8, 7), (4, 8), (16, 8), (32, 8))
LONGEST_FIRST_CALL = 1024
# Ids below this fit any table of words; token types, whose table has two rows, are never fed with random ids.
SAFE_VOCABULARY = 4
MASK_FORMS = (("real", "int64"), ("real", "bool"), ("padding", "bool"))


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


def first_probe(model: nn.Module, roles: Roles, config: Mapping[str, Any]) -> Probe:
    """Return the first probe with which ``model`` runs.

    Raises:
        ModelError: The failure of the likeliest call, if no call works.
    """
    limit = config_hints.max_length_hint(config)
    whole = ((3, limit), (1, limit)) if limit is not None and limit <= LONGEST_FIRST_CALL else ()
    failure: ModelError | None = None
    for number, draft in enumerate(_drafts(roles)):
        for sized in _sized(draft, config):
            if sized.ends_with_eos and sized.eos_token_id is None:
                continue
            # Odd shapes and odd masks together are not looked for.
            for batch, length in (*SHAPES, *whole) if number == 0 else SHAPES[:1]:
                probe = Probe(model, sized, batch, length)
                try:
                    probe.run(probe.ids())
                    return probe
                except ModelError as err:
                    failure = failure or err
    raise failure or AssertionError("no call was tried")


def works_at(probe: Probe, length: int) -> bool:
    """Whether the model runs on sequences of ``length`` tokens."""
    try:
        probe.run(probe.ids(length=length))
    except ModelError:
        return False
    return True


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


def _sized(draft: Contract, config: Mapping[str, Any]) -> Iterator[Contract]:
    """The draft with the stated vocabulary, then with one so small that it fits whatever was built."""
    stated = config_hints.vocabulary_hint(config) or SAFE_VOCABULARY
    for size in dict.fromkeys((stated, SAFE_VOCABULARY)):
        decoder_size = min(config_hints.vocabulary_hint(config, decoder=True) or size, size)
        sized = replace(draft, vocab_size=size, decoder_vocab_size=decoder_size)
        yield sized.with_special_tokens(config_hints.special_tokens(config, size))


def _drafts(roles: Roles) -> Iterator[Contract]:
    """Contracts by signature alone; several where ``forward`` demands masks, whose form is not known yet.

    A demanded mask is left out (None) if that works, else it is all ones in some form, else it is a (T, T) mask.
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
    demanded = roles.demanded_masks
    yield draft.with_fixed(demanded, "none")
    yield replace(draft.with_fixed(demanded, "none"), ends_with_eos=True)
    if not demanded:
        return
    padding = tuple(name for name in demanded if name in (roles.mask, roles.decoder_mask))
    others = [name for name in demanded if name not in padding]
    for dims in (2, 4, 3):
        for meaning, dtype in MASK_FORMS:
            formed = replace(draft, mask_meaning=meaning, mask_dtype=dtype, mask_dims=dims)
            yield replace(formed.with_fixed(others, "none"), required_masks=padding)
            for form in CAUSAL_FORMS if roles.decoder_ids and roles.mask in demanded else ():
                source_only = replace(formed, decoder_mask_argument=None, required_masks=(str(roles.mask),))
                yield source_only.with_fixed([name for name in demanded if name != roles.mask], form)
    for form in CAUSAL_FORMS:
        yield replace(draft, mask_argument=None, decoder_mask_argument=None).with_fixed(demanded, form)


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
