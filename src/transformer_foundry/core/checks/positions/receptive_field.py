"""Check that each position sees the token before it, and that the class of a text depends on all its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import dependence, dependence_map, noise_level
from transformer_foundry.core.checks.probing.localize import attention_call
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, declared_length, generic_weights

__all__ = ["check_receptive_field"]

# Lengths that many numbers of heads divide.
EVEN_LENGTHS = (12, 16)
# Scale of milder generic weights.
MILD = 0.3
# Max pooling hides tokens by chance: several sets of weights show every dependence.
WEIGHTS = 3
# Settings that declare attention within chunks, where the previous token may be in another chunk.
LOCAL_ATTENTION = re.compile(r"chunk|block_?size|window|local|stride|segment|lsh|bucket|sparse|span", re.IGNORECASE)


def check_receptive_field(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that each output position depends on the token before it, and the class of a text on all tokens."""
    if not subject.labels_positions:
        yield from _unseen_by_class(subject)
        return
    with generic_weights(subject.model):
        maps = [dependence_map(subject), *_even_maps(subject)]
    changes = min(maps, key=lambda item: float(_sees_previous(item).float().mean()))
    length = changes.shape[1]
    if length < 3:
        return
    seen = changes > noise_level(changes)
    others = seen & ~torch.eye(length, dtype=torch.bool)
    location = _attention_place(subject)
    if not others.any():
        yield finding_at(
            "neighbors",
            "error",
            f"No position sees any other token: replacing one of {length} tokens changed only the output at its own "
            "position. The model cannot use context; it can learn only the frequency of each token.",
            location,
            "make sure that the result of attention is used, and that its mask does not hide every other position.",
        )
        return
    blind = [position for position in range(1, length) if not seen[position, position - 1]]
    if blind:
        blind = _still_blind(subject, length, blind)
    if blind:
        yield _blind(subject, seen, blind, location)
    if not subject.is_causal and subject.stated_kind == "encoder-only" and not torch.triu(others, 1).any():
        yield finding_at(
            "neighbors",
            "warning",
            "No position sees a later token, although this is an encoder: it reads from left to right only. An "
            "encoder that predicts masked tokens needs both sides.",
            location,
            "remove its causal mask, or set the kind of the model to decoder-only.",
        )


def _unseen_by_class(subject: ModelUnderTest) -> Iterator[Finding]:
    """Find tokens that have no influence on the class of a text."""
    seen = torch.zeros(subject.length, dtype=torch.bool)
    seen[-1] = subject.contract.ends_with_eos  # It cannot be replaced.
    for seed in range(WEIGHTS):
        with generic_weights(subject.model, seed=seed):
            changes = dependence(subject, subject.inputs())
        seen |= (changes > noise_level(changes))[0]
    if bool(seen.all()):
        return
    hidden = (~seen).nonzero().flatten().tolist()
    is_local = any(_is_local_setting(subject, str(key), value) for key, value in subject.config.items())
    yield finding_at(
        "neighbors",
        "error" if int(seen.sum()) <= 1 else "info" if is_local else "warning",
        f"The class of a text depends on {int(seen.sum())} of its {len(seen)} tokens only: replacing token "
        f"{', '.join(map(str, hidden[:5]))}{' and others' if len(hidden) > 5 else ''} changes nothing. The position "
        "that the class is read from does not see the rest of the text.",
        _attention_place(subject),
        "apply no causal mask if the class is read from the first token, or read it from a position that sees all "
        "others; make sure that the result of attention is used.",
    )


def _even_maps(subject: ModelUnderTest) -> list[Tensor]:
    """Return maps at lengths where a wrong split of heads divides the sequence between positions."""
    limit = subject.contract.max_length or max(EVEN_LENGTHS)
    return [
        dependence(subject, subject.inputs(length=length), attempts=1) for length in EVEN_LENGTHS if length <= limit
    ]


def _sees_previous(changes: Tensor) -> Tensor:
    """Return whether each position sees the one before it, (T - 1,) bool, without the first position."""
    return torch.diagonal(changes > noise_level(changes), offset=-1)


def _still_blind(subject: ModelUnderTest, length: int, blind: list[int]) -> list[int]:
    """Return the positions that are blind under milder weights too, because a saturated softmax hides dependence."""
    with generic_weights(subject.model, seed=1, scale=MILD):
        changes = dependence(subject, subject.inputs(length=length))
    seen = changes > noise_level(changes)
    return [position for position in blind if not seen[position, position - 1]]


def _blind(subject: ModelUnderTest, seen: Tensor, blind: list[int], location: Location) -> Finding:
    local = [key for key, value in subject.config.items() if _is_local_setting(subject, str(key), value)]
    shown = ", ".join(map(str, blind[:5]))
    message = (
        f"Position{'s' if len(blind) > 1 else ''} {shown} of {len(seen)} cannot see the token right before: replacing "
        "it changes nothing there. The sequence is divided into parts that are independent of each other."
    )
    if local:
        return finding_at("neighbors", "info", f"{message} The setting {local[0]} may intend this.", location)
    return finding_at(
        "neighbors",
        "error",
        f"{message} Usual cause: heads are split with view(B, heads, T, width) instead of view(B, T, heads, "
        "width).transpose(1, 2), which mixes positions and heads; otherwise a wrong mask.",
        location,
        "split heads with .view(B, T, heads, width).transpose(1, 2) and merge them the same way back.",
    )


def _is_local_setting(subject: ModelUnderTest, key: str, value: object) -> bool:
    """Return whether a setting declares local attention; ``block_size`` is often the whole sequence."""
    if not LOCAL_ATTENTION.search(key) or value in (None, False, 0):
        return False
    return not isinstance(value, int) or value is True or value < declared_length(subject)


def _attention_place(subject: ModelUnderTest) -> Location:
    call = attention_call(subject.trace, "")
    return subject.locator.module(call.module, call.line) if call is not None else subject.locator.forward()
