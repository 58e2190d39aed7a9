"""The loss of a model with a vocabulary head, computed in chunks without touching the model's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.training.memory.chunked_cross_entropy import Head
from transformer_foundry.core.training.memory.equivalence import EquivalenceResult, compare, run_once
from transformer_foundry.core.training.memory.lazy_logits import LazyLogits, LogitsUsage

__all__ = ["ChunkedLoss", "verify_chunked_loss"]


class ChunkedLoss:
    """Makes the logits of a model lazy while ``active``; outside, the model is what it always was.

    Args:
        model: The model, or its adapter.
        output_size: Size of the last dimension of the logits.
        head: The layer that makes the logits; None watches every function of the forward pass, which finds heads that
            are not layers (``x @ embedding.weight.T``) and costs some microseconds for each call of torch.

    Attributes:
        usage: What became of the logits.
    """

    def __init__(self, output_size: int, head: nn.Linear | None = None) -> None:
        self.output_size, self.head = output_size, head
        self.usage = LogitsUsage()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it a loss of the model's logits is computed in chunks; other uses compute the logits."""
        if self.head is None:
            with _Watch(self.output_size, self.usage):
                yield
            return
        head = self.head
        assert "forward" not in vars(head), "the head's forward is already replaced"
        head.forward = lambda hidden: LazyLogits(hidden, Head(head.weight, head.bias), self.usage)  # type: ignore
        try:
            yield
        finally:
            del head.forward


class _Watch(TorchFunctionMode):
    """Finds the matrix product that makes the logits."""

    def __init__(self, output_size: int, usage: LogitsUsage) -> None:
        super().__init__()
        self.output_size, self.usage = output_size, usage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS and not kwargs and len(args) >= 2:
            hidden, weight, *bias = args
            if func is not F.linear and weight.dim() == 2:
                weight = weight.t()
            is_head = weight.dim() == 2 and weight.size(0) == self.output_size and hidden.size(-1) == weight.size(1)
            if is_head and not isinstance(hidden, LazyLogits):
                return LazyLogits(hidden, Head(weight, bias[0] if bias else None), self.usage)
        return func(*args, **kwargs)


_PRODUCTS = (F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__)


def verify_chunked_loss(
    adapter: nn.Module, objective: TaskLoss, batch: Batch, *, label_smoothing: float = 0.0
) -> tuple[ChunkedLoss | None, EquivalenceResult]:
    """Find out whether the loss of ``adapter`` can be computed in chunks.

    The loss and every gradient of ``batch`` must be equal within ``proof.TOLERANCE`` in float32, dropout on. Nothing of
    the model or of the random streams is changed.

    Args:
        adapter: The model, in float32.
        objective: Its loss.
        batch: A small batch on the model's device.
        label_smoothing: As in training.

    Returns:
        What computes the loss in chunks, or None; and the result with a line that says why.
    """
    if not objective.task.endswith("_lm"):
        return None, EquivalenceResult(
            False, f"not used, because the task {objective.task} has no logits over a vocabulary"
        )
    plain = run_once(adapter, objective, batch, label_smoothing=label_smoothing)
    reason = "the model's logits are not made by a linear layer whose result is only scaled, capped or compared"
    for chunked in _candidates(adapter, plain.output_size):
        chunked.usage.rows = max(1, plain.row_count // 3)  # several chunks, the last one shorter
        try:
            found = run_once(adapter, objective, batch, chunked.active, label_smoothing=label_smoothing)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as err:
            reason = f"the model does not run with it ({str(err).splitlines()[0]})"
            continue
        if chunked.usage.wanted_by:
            reason = f"the model needs the logits themselves, for {chunked.usage.wanted_by[0]}"
        elif chunked.usage.losses:
            difference = compare(plain, found)
            if difference is None:
                chunked.usage.rows = None
                return chunked, EquivalenceResult(True, "the loss is computed in chunks")
            reason = difference
    return None, EquivalenceResult(False, f"not used, because {reason}")


def _candidates(adapter: nn.Module, output_size: int) -> Iterator[ChunkedLoss]:
    """Yield a linear layer of the right size, the last one first, and then the watch over all functions."""
    layers = [
        module
        for module in adapter.modules()
        if isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and "forward" not in vars(module)
        and module.out_features == output_size
    ]
    for head in reversed(layers):
        yield ChunkedLoss(output_size, head)
    yield ChunkedLoss(output_size)
