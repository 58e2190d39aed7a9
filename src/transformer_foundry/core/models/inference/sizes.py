"""Find the sizes of a model: rows of its embeddings and longest sequence, from config and observed lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import config_hints
from transformer_foundry.core.models.inference.probe import Probe, works_at

__all__ = ["infer_sizes"]

LONGEST_TRIAL = 1024
LARGEST_VOCABULARY = 2**20


def infer_sizes(probe: Probe, config: Mapping[str, Any]) -> Probe:
    """Return the probe with vocabulary sizes, longest sequence and special tokens known."""
    stated = config_hints.max_length_hint(config)
    rows, decoder_rows, limit = _watch_sizes(probe, stated)
    vocab_size = _smallest(config_hints.vocabulary_hint(config), rows) or _largest_vocabulary(probe)
    decoder_vocab_size = None
    if probe.contract.decoder_ids_argument:
        decoder_vocab_size = _smallest(config_hints.vocabulary_hint(config, decoder=True), decoder_rows) or vocab_size
    tokens: dict[str, Any] = dict(
        config_hints.special_tokens(config, min(vocab_size, decoder_vocab_size or vocab_size))
    )
    return probe.knowing(
        vocab_size=vocab_size,
        decoder_vocab_size=decoder_vocab_size,
        max_length=_smallest(stated, limit),
        **tokens,
    )


def _watch_sizes(probe: Probe, stated: int | None) -> tuple[int | None, int | None, int | None]:
    """Return the rows of the table of ids, of decoder ids, and the longest sequence that tables of positions allow.

    A table that grows when it has to is no limit, so a limit below the ``stated`` length is tried.
    """
    ids = probe.ids()
    decoder_ids = probe.ids(1, decoder=True) if probe.contract.decoder_ids_argument else None
    watch = EmbeddingLookupTracer([ids] if decoder_ids is None else [ids, decoder_ids], probe.length)
    with watch:
        probe.run(ids, decoder_ids)
    rows = [min(found) if found else None for found in watch.rows]
    alone = replace(probe, batch=1)
    trial = alone if works_at(alone, probe.length) else probe
    limits = [
        limit
        for limit in watch.positions
        if (stated is None or limit < stated) and (limit > LONGEST_TRIAL or not works_at(trial, limit + 1))
    ]
    return rows[0], rows[1] if decoder_ids is not None else None, min(limits) if limits else None


def _largest_vocabulary(probe: Probe) -> int:
    """Return the number of ids that the model takes, found by trying, at most ``LARGEST_VOCABULARY``."""
    low, high = probe.contract.vocab_size, 2 * probe.contract.vocab_size
    while high < LARGEST_VOCABULARY and _takes(probe, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _takes(probe, middle) else (low, middle)
    return low


def _takes(probe: Probe, vocab_size: int) -> bool:
    ids = probe.ids()
    ids[:, -1] = vocab_size - 1
    try:
        probe.run(ids)
    except ModelError:
        return False
    return True


class EmbeddingLookupTracer(TorchDispatchMode):
    """Records, while active, the rows of tables that are indexed by given ids or by positions.

    Args:
        ids: Tensors of token ids, each looked for as an index.
        length: Sequence length T; an index of T consecutive numbers, or a cut down to T, is one by position.

    Attributes:
        rows: For each tensor of ``ids``, the rows of the tables that it indexed.
        positions: Largest T that each table of positions allows.
    """

    def __init__(self, ids: Sequence[Tensor], length: int) -> None:
        super().__init__()
        self._ids = [tensor.clone() for tensor in ids]
        self._length = length
        self.rows: list[set[int]] = [set() for _ in ids]
        self.positions: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Skipping imports torch._dynamo, which takes seconds; nothing is compiled here.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note look-ups and cuts, then do what was asked."""
        name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else ""
        if name == "embedding":
            self._note_index(args[0].shape[0], args[1])
        elif name == "index" and isinstance(args[1], list | tuple):
            for dim, index in enumerate(args[1]):
                if isinstance(index, Tensor) and dim < args[0].dim():
                    self._note_index(args[0].shape[dim], index)
        elif name == "index_select":
            self._note_index(args[0].shape[args[1]], args[2])
        elif name == "slice":
            self._note_cut(*args)
        return func(*args, **(kwargs or {}))

    def _note_index(self, rows: int, index: Tensor) -> None:
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

    def _note_cut(self, table: Tensor, dim: int = 0, start: Any = 0, end: Any = None, step: int = 1) -> None:
        if end == self._length and start in (0, None) and step == 1 and table.shape[dim] > self._length:
            self.positions.add(int(table.shape[dim]))


def _smallest(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
