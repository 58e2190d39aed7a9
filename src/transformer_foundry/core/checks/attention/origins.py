"""Check from which tokens the queries, keys and values of each attention are made, and which heads share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from transformer_foundry.core.checks.attention.parts import AttentionParts, attention_parts
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import replace_token
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import Trace

__all__ = ["check_attention_origins"]

# Changes below this share of the largest value are rounding.
NO_CHANGE = 1e-5
SHORTEST = 6
LARGEST_MODEL = 300_000_000
MOVING = frozenset({"view", "reshape", "transpose", "permute", "unflatten", "flatten", "expand", "repeat", "stack"})
SHARING = frozenset({
    "repeat", "repeat_interleave", "expand", "tile", "expand_as", "__getitem__", "index_select", "cat", "reshape",
})  # fmt: skip


def check_attention_origins(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that keys and values are made from the same tokens in the same places, and shared by the same heads."""
    if subject.mixes_samples or subject.length < SHORTEST or subject.parameter_count > LARGEST_MODEL:
        return
    inputs, columns = _replaced_one_by_one(subject)
    with generic_weights(subject.model):
        trace = subject.traced(inputs)
    for parts in attention_parts(trace, len(inputs.ids)):
        finding = (
            _shared_crosswise(subject, trace, parts)
            or _moved(subject, trace, parts, columns)
            or _different_origins(subject, parts, columns)
        )
        if finding is not None:
            yield finding
            return


def _replaced_one_by_one(subject: ModelUnderTest) -> tuple[Inputs, dict[str, list[int]]]:
    """Return a batch whose first sample is the probe and whose others have one other token each.

    Also returns, for ``target`` and ``source``, the position that each further sample changes.
    """
    base = subject.inputs()
    sides = {"target": base.target} | ({"source": base.ids} if subject.takes_decoder_ids else {})
    runs, columns = [base], {}
    for side, ids in sides.items():
        columns[side] = list(range(ids.shape[1]))
        for position in columns[side]:
            other = replace_token(subject, ids, position)
            runs.append(base.with_target(other) if side == "target" else Inputs(other, None, base.decoder_ids))
    decoder_ids = [run.decoder_ids for run in runs if run.decoder_ids is not None]
    stacked = Inputs(torch.cat([run.ids for run in runs]), None, torch.cat(decoder_ids) if decoder_ids else None)
    return stacked, columns


def _origins(part: Tensor, columns: dict[str, list[int]]) -> dict[str, Tensor]:
    """Return (H, T, N) bool for each side: whether position t of head h changes with token n."""
    changed = (part[1:] - part[:1]).abs().amax(dim=-1) > NO_CHANGE * part.abs().max()
    found, start = {}, 0
    for side, positions in columns.items():
        found[side] = changed[start : start + len(positions)].permute(1, 2, 0)
        start += len(positions)
    return found


def _moved(
    subject: ModelUnderTest, trace: Trace, parts: AttentionParts, columns: dict[str, list[int]]
) -> Finding | None:
    """Find queries, keys or values whose positions are not those of the tokens in some heads or places."""
    if _is_reversed(parts, columns):
        return None
    for name, part in (("queries", parts.query), ("keys", parts.key), ("values", parts.value)):
        for side, seen in _origins(part, columns).items():
            if seen.shape[1] != seen.shape[2] or subject.equal_lengths:
                continue
            known = seen.any(dim=(0, 1))  # A last token that must stay was not replaced.
            own = torch.diagonal(seen, dim1=1, dim2=2)[:, known]
            lone = (seen.sum(dim=2) <= 1).all()
            if own.all() or not own.any() or not (lone or own.float().mean() < 0.5):
                continue
            head, place = (~own).nonzero()[0].tolist()
            found = seen[head, place].nonzero().flatten().tolist()
            reads = f"token {found[0]}" if found else "no token"
            word = "source " if side == "source" else ""
            return finding_at(
                "heads",
                "error",
                f"Heads are mixed with time: the {name} of head {head} at {word}position {place} are made from "
                f"{reads}, not from token {place}. A reshape takes the axes of positions and heads for each other.",
                _place(subject, trace, parts, part, MOVING),
                "expand groups before the axis of time, k[:, :, None].expand(B, groups, n, T, width).reshape(B, "
                "heads, T, width), or use repeat_interleave(n, dim=1) on (B, groups, T, width).",
            )
    return None


def _is_reversed(parts: AttentionParts, columns: dict[str, list[int]]) -> bool:
    """Return whether all heads read the text from its end: one direction of two, not a mixture of heads and time."""
    origins = [_origins(part, columns) for part in (parts.query, parts.key, parts.value)]
    sides = [seen for found in origins for seen in found.values() if seen.any()]
    return bool(sides) and all(
        seen.shape[1] == seen.shape[2] and torch.diagonal(seen.flip(1), dim1=1, dim2=2)[:, seen.any(dim=(0, 1))].all()
        for seen in sides
    )


def _shared_crosswise(subject: ModelUnderTest, trace: Trace, parts: AttentionParts) -> Finding | None:
    """Find heads that share a key with one head and the value with another."""
    keys, values = _groups(parts.key), _groups(parts.value)
    heads = len(keys)
    pairs = [(one, other) for one in range(heads) for other in range(one)]
    only_key = [pair for pair in pairs if keys[pair[0]] == keys[pair[1]] and values[pair[0]] != values[pair[1]]]
    only_value = [pair for pair in pairs if keys[pair[0]] != keys[pair[1]] and values[pair[0]] == values[pair[1]]]
    uneven = next((name for name, groups in (("key", keys), ("value", values)) if _is_uneven(groups)), "")
    if only_key and only_value:
        one, other = only_key[0]
        what = (
            f"Heads {other} and {one} share a key but not the value, and heads {only_value[0][1]} and "
            f"{only_value[0][0]} share a value but not the key: keys and values are repeated in different orders, so a "
            "head looks up one group and reads another"
        )
    elif uneven and len(set(keys)) > 1:
        sizes = sorted(Counter(keys if uneven == "key" else values).values())
        what = f"Groups of heads that share a {uneven} have different sizes ({', '.join(map(str, sizes))})"
    else:
        return None
    return finding_at(
        "heads",
        "error",
        f"{what}.",
        _place(subject, trace, parts, parts.value, SHARING),
        "repeat keys and values in the same way: repeat_interleave(heads // groups, dim=1) for both.",
    )


def _groups(part: Tensor) -> list[int]:
    """Return the group of each head: the first head that has the same values everywhere."""
    heads = part.transpose(0, 1).flatten(1)
    return [
        next((other for other in range(head) if torch.equal(heads[other], heads[head])), head)
        for head in range(len(heads))
    ]


def _is_uneven(groups: Sequence[int]) -> bool:
    sizes = Counter(groups).values()
    return 1 < len(sizes) < len(groups) and len(set(sizes)) > 1


def _different_origins(subject: ModelUnderTest, parts: AttentionParts, columns: dict[str, list[int]]) -> Finding | None:
    """Find keys and values of one attention that are made from different states."""
    keys, values = _origins(parts.key, columns), _origins(parts.value, columns)
    if not any(seen.any() for seen in keys.values()) or not any(seen.any() for seen in values.values()):
        return None  # Positions alone.
    for side in columns:
        if bool(keys[side].any()) != bool(values[side].any()):
            what, other = ("keys", "values") if keys[side].any() else ("values", "keys")
            stack = "the decoder's own tokens" if side == "target" else "the source"
            return _two_streams(subject, parts, f"its {what} depend on {stack}, its {other} do not")
        for plain, mixed, name in ((keys[side], values[side], "keys"), (values[side], keys[side], "values")):
            if _is_without_context(plain) and _sees_most(mixed):
                rest = "values" if name == "keys" else "keys"
                return _two_streams(
                    subject, parts, f"its {name} at a position depend on one token only, its {rest} on the whole text"
                )
    return None


def _is_without_context(seen: Tensor) -> bool:
    return seen.shape[1] >= SHORTEST and bool(seen.any()) and bool((seen.sum(dim=2) <= 1).all())


def _sees_most(seen: Tensor) -> bool:
    return bool((seen.sum(dim=2).amax(dim=1) > seen.shape[2] / 2).all())


def _two_streams(subject: ModelUnderTest, parts: AttentionParts, what: str) -> Finding:
    return finding_at(
        "attention",
        "warning",
        f"Keys and values of an attention come from different states: {what}. What is looked up at a position is not "
        "what is read there.",
        subject.locator.module(parts.module, parts.line),
        "make keys and values from the same states: of the encoder's result in a cross-attention, of the layer's input "
        "in a self-attention.",
    )


def _place(
    subject: ModelUnderTest, trace: Trace, parts: AttentionParts, part: Tensor, names: frozenset[str]
) -> Location:
    """Return the location of the last operation before the attention that moved or repeated this part."""
    for call in reversed(trace.operations[: parts.number]):
        if call.module != parts.module:
            break
        if call.name in names and call.output.numel() == part.numel() and _same_values(call.output, part):
            return subject.locator.module(parts.module, call.line)
    return subject.locator.module(parts.module, parts.line)


def _same_values(output: Tensor, part: Tensor) -> bool:
    return output.shape[-2:] == part.shape[-2:] and torch.equal(output.reshape(part.shape).float(), part)
