"""Find a first call that a model answers: arguments by its signature, a shape in which it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import config_hints
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.inference.argument_roles import Roles
from transformer_foundry.core.models.inference.call import CAUSAL_FORMS
from transformer_foundry.core.models.inference.probe import Probe

__all__ = ["first_probe"]

# (batch, length). Three sequences: two would be mixed up with two heads. The later shapes find models that run in one
# shape only: what is wrong with that is for the checks to say.
SHAPES = ((3, 7), (3, 3), (1, 7), (8, 7), (4, 8), (16, 8), (32, 8))
LONGEST_FIRST_CALL = 1024
# Ids below this fit any table of words; token types, whose table has two rows, are never fed with random ids.
SAFE_VOCABULARY = 4
MASK_FORMS = (("real", "int64"), ("real", "bool"), ("padding", "bool"))


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
