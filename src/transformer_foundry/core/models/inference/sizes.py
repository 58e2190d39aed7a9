"""Find the sizes of a model: rows of its embeddings and longest sequence, from config and observed lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.inference.probe import Probe, works_at
from transformer_foundry.core.system.torch_compat import DispatchMode

__all__ = ["infer_sizes"]

LONGEST_TRIAL = 1024
LARGEST_VOCABULARY = 2**20


def infer_sizes(probe: Probe, config: Mapping[str, Any]) -> Probe:
    """Return the probe with vocabulary sizes, longest sequence and special tokens known.

    Where the configuration and an embedding differ, the smaller counts: a vocabulary may be padded to a round number.
    """
    stated_length = config_hints.max_length_hint(config)
    rows, decoder_rows, max_length = _observe_embeddings(probe, stated_length)
    vocab_size = _smallest(config_hints.vocabulary_hint(config), rows) or _largest_vocabulary(probe)
    decoder_vocab_size = None
    if probe.contract.decoder_ids_argument:
        decoder_vocab_size = _smallest(config_hints.vocabulary_hint(config, decoder=True), decoder_rows) or vocab_size
    if stated_length is None:
        max_length = _longest(probe, max_length)
    tokens: dict[str, Any] = dict(
        config_hints.special_tokens(config, min(vocab_size, decoder_vocab_size or vocab_size))
    )
    return probe.with_contract(
        vocab_size=vocab_size,
        decoder_vocab_size=decoder_vocab_size,
        max_length=_smallest(stated_length, max_length),
        **tokens,
    )


def _observe_embeddings(probe: Probe, stated_length: int | None) -> tuple[int | None, int | None, int | None]:
    """Return the rows of the embedding of the ids, those for decoder ids, and the longest sequence they allow.

    A table of positions that grows on demand is no limit, so a limit below ``stated_length`` is tried.
    """
    ids = probe.ids()
    decoder_ids = probe.ids(1, decoder=True) if probe.contract.decoder_ids_argument else None
    tracer = EmbeddingLookupTracer([ids] if decoder_ids is None else [ids, decoder_ids], probe.length)
    with tracer:
        probe.run(ids, decoder_ids)
    rows = [min(found) if found else None for found in tracer.rows]
    single = replace(probe, batch=1)
    trial = single if works_at(single, probe.length) else probe
    limits = [
        limit
        for limit in tracer.positions
        if (stated_length is None or limit < stated_length)
        and (limit > LONGEST_TRIAL or not works_at(trial, limit + 1))
    ]
    return rows[0], rows[1] if decoder_ids is not None else None, min(limits, default=None)


def _longest(probe: Probe, table: int | None) -> int | None:
    """Return the longest sequence that the model accepts, found by bisection.

    A limit can be kept by an assert or by a table of masks, under any name.

    Args:
        probe: A probe of known vocabulary.
        table: What its tables of positions allow; None without one: then lengths above ``LONGEST_TRIAL`` are no limit.
    """
    single = replace(probe, batch=1)
    trial = single if works_at(single, probe.length) else probe
    low, high = probe.length, min(table or LONGEST_TRIAL, LONGEST_TRIAL)
    if low >= high or not works_at(trial, low) or works_at(trial, high):
        return table
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works_at(trial, middle) else (low, middle)
    return low


def _largest_vocabulary(probe: Probe) -> int:
    """Return the number of ids that the model accepts, found by bisection, at most ``LARGEST_VOCABULARY``."""
    low, high = probe.contract.vocab_size, 2 * probe.contract.vocab_size
    while high < LARGEST_VOCABULARY and _accepts(probe, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _accepts(probe, middle) else (low, middle)
    return low


def _accepts(probe: Probe, vocab_size: int) -> bool:
    ids = probe.ids()
    ids[:, -1] = vocab_size - 1
    try:
        probe.run(ids)
    except ModelError:
        return False
    return True


class EmbeddingLookupTracer(DispatchMode):
    """Record, while active, the rows of tables that are indexed by given ids or by positions.

    Args:
        ids: Tensors of token ids, each looked for as an index.
        length: Sequence length T; an index of T consecutive numbers, or a slice of length T, is one by position.

    Attributes:
        rows: For each tensor of ``ids``, the rows of the tables that it indexed.
        positions: Largest T that each table of positions allows.
    """

    def __init__(self, ids: Sequence[Tensor], length: int) -> None:
        self._ids = [tensor.clone() for tensor in ids]
        self._length = length
        self.rows: list[set[int]] = [set() for _ in ids]
        self.positions: set[int] = set()

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record lookups and slices, then run the operation."""
        name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else ""
        if name == "embedding":
            self._record_index(args[0].shape[0], args[1])
        elif name == "index" and isinstance(args[1], list | tuple):
            for dim, index in enumerate(args[1]):
                if isinstance(index, Tensor) and dim < args[0].dim():
                    self._record_index(args[0].shape[dim], index)
        elif name == "index_select":
            self._record_index(args[0].shape[args[1]], args[2])
        elif name == "slice":
            self._record_slice(*args)
        return func(*args, **kwargs)

    def _record_index(self, rows: int, index: Tensor) -> None:
        if index.dtype not in (torch.int64, torch.int32) or index.numel() == 0:
            return
        for number, ids in enumerate(self._ids):
            if index.numel() == ids.numel() and (
                torch.equal(index.reshape(ids.shape), ids) or torch.equal(index.t() if index.dim() == 2 else index, ids)
            ):
                self.rows[number].add(rows)
                return
        line = index.reshape(-1, index.shape[-1]) if index.dim() else index.reshape(1, 1)
        steps = line[:, 1:] - line[:, :-1]
        if line.shape[1] == self._length and bool((steps == 1).all()) and bool((line[:, 0] == line[0, 0]).all()):
            self.positions.add(rows - int(line[0, 0]))

    def _record_slice(self, table: Tensor, dim: int = 0, start: Any = 0, end: Any = None, step: int = 1) -> None:
        if end == self._length and start in (0, None) and step == 1 and table.shape[dim] > self._length:
            self.positions.add(int(table.shape[dim]))


def _smallest(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
