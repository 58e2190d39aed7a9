"""Check that tables of types, segments and steps are looked up with more than one index."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, declared_length
from transformer_foundry.core.checks.probing.source_map import SourceLine, current_frame

__all__ = ["check_lookup_tables"]

LONGEST = 40
SAMPLES = 4


def check_lookup_tables(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that no table with several rows is always read at one index, whatever the tokens and their places."""
    tables = {path: table for path, table in subject.submodules(nn.Embedding) if table.num_embeddings > 1}
    tables = {path: table for path, table in tables.items() if not _has_own_argument(subject, path)}
    seen, lines = _indices(subject, tables)
    for path, ids in seen.items():
        if len(ids) == 1 and tables[path].weight.requires_grad:
            rows = tables[path].num_embeddings
            yield finding_at(
                "constant index",
                "warning",
                f"The table {path} has {rows} rows, but only row {next(iter(ids))} is ever read: its index is the same "
                "for all tokens, positions and layers. It adds one constant vector, and the other rows never learn.",
                subject.locator.module(path, lines[path]),
                "compute the index (the segment of a token, the number of the layer) and look the table up with it, or "
                "remove the table.",
            )
            return


def _indices(
    subject: ModelUnderTest, tables: dict[str, nn.Embedding]
) -> tuple[dict[str, set[int]], dict[str, SourceLine | None]]:
    """Return the indices (at most two) with which each table was read in calls of several kinds, and the line."""
    seen: dict[str, set[int]] = {}
    lines: dict[str, SourceLine | None] = {}

    def watch(path: str) -> Any:
        def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor) and len(seen.setdefault(path, set())) < 2:
                seen[path] |= set(inputs[0].flatten().unique()[:2].tolist())
                lines[path] = subject.source.caller(current_frame())

        return enter

    handles = [table.register_forward_pre_hook(watch(path)) for path, table in tables.items()]
    try:
        for inputs in _calls(subject):
            subject.logits(inputs)
            if all(len(ids) > 1 for ids in seen.values()):
                break
    finally:
        for handle in handles:
            handle.remove()
    return seen, lines


def _calls(subject: ModelUnderTest) -> Iterator[Inputs]:
    """Yield ordinary inputs, long ones with all ids including the special ones, and padded ones."""
    yield subject.inputs(batch=2)
    length = min(LONGEST, declared_length(subject))
    inputs = subject.inputs(batch=SAMPLES, length=length)
    special = [
        value
        for key, value in {**subject.config, **vars(subject.contract)}.items()
        if str(key).endswith(("_token_id", "_id"))
        and isinstance(value, int)
        and 0 <= value < subject.contract.vocab_size
    ]
    generator = torch.Generator().manual_seed(17)
    ids = torch.randint(subject.contract.vocab_size, inputs.ids.shape, generator=generator)
    for index, token in enumerate(special[: inputs.ids.shape[1] - 1]):
        ids[1, index] = token
    small = min(subject.contract.vocab_size, 2 * inputs.ids.shape[1])
    ids[2:] = torch.randint(small, ids[2:].shape, generator=generator)
    yield Inputs(subject.contract.end_with_eos(ids), None, inputs.decoder_ids)
    if subject.contract.mask_argument is not None:
        mask = torch.ones_like(inputs.ids)
        mask[:2, -2:] = 0
        yield Inputs(inputs.ids, mask, inputs.decoder_ids)


def _has_own_argument(subject: ModelUnderTest, path: str) -> bool:
    """Return whether a method takes an optional input of its own for a table: their names share a word.

    Of ``forward`` it can be given; an inner method (an encoder of two texts) may be called without it on purpose.
    """
    contract = subject.contract
    roles = {contract.ids_argument, contract.mask_argument, contract.decoder_ids_argument, contract.labels_argument}
    given = [
        item.name
        for item in inspect.signature(subject.model.forward).parameters.values()
        if item.name not in roles and item.kind is not item.VAR_POSITIONAL
    ]
    given += [
        item.name
        for cls in {type(module) for module in subject.model.modules()}
        if not cls.__module__.startswith("torch.")
        for method in vars(cls).values()
        if inspect.isfunction(method)
        for item in inspect.signature(method).parameters.values()
        if item.default is None
    ]
    words = _words(path)
    return any(one[:3] == other[:3] for name in given for one in _words(name) for other in words)


def _words(name: str) -> list[str]:
    return [
        word
        for word in re.split(r"[^a-z]+", name.lower())
        if len(word) > 2 and not word.startswith(("emb", "ids", "mask", "tok"))
    ]
