"""Watch which tables a forward pass looks ids and positions up in: the sizes that really bind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["EmbeddingLookupTracer"]


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
