"""Compute the loss of a model with a vocabulary head in chunks, without changing the model's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.training.memory.chunked_cross_entropy import Head
from transformer_foundry.core.training.memory.equivalence import EquivalenceResult, compare, run_once
from transformer_foundry.core.training.memory.lazy_logits import LazyLogits, LogitsUsage

__all__ = ["ChunkedLoss", "verify_chunked_loss"]


class ChunkedLoss:
    """Make the logits of a model lazy while ``active``; outside it the model is unchanged.

    Args:
        output_size: Size of the last dimension of the logits.
        head: The layer that computes the logits; None observes every function of the forward pass, which finds heads
            that are not layers (``x @ embedding.weight.T``) and costs some microseconds for each call of torch.

    Attributes:
        usage: How the logits were used.
    """

    def __init__(self, output_size: int, head: nn.Linear | None = None) -> None:
        self.output_size, self.head = output_size, head
        self.usage = LogitsUsage()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute losses of the model's logits in chunks; other uses compute the logits."""
        if self.head is None:
            with _HeadFinder(self.output_size, self.usage):
                yield
            return
        head = self.head
        assert "forward" not in vars(head), "the head's forward is already replaced"
        head.forward = lambda hidden: LazyLogits(hidden, Head(head.weight, head.bias), self.usage)  # type: ignore
        try:
            yield
        finally:
            del head.forward


class _HeadFinder(TorchFunctionMode):
    """Finds the matrix product that computes the logits."""

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
    """Verify that the loss of ``adapter`` can be computed in chunks.

    The loss and every gradient of ``batch`` must be equal within ``equivalence.TOLERANCE`` in float32 with dropout on.
    The model and the random state are restored.

    Args:
        adapter: The model, in float32.
        objective: Its loss.
        batch: A small batch on the model's device.
        label_smoothing: As in training.

    Returns:
        The chunked loss, or None if it cannot be used; and the result of the verification with the reason.
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
            reason = f"the model does not run with it ({error_message(err, first_line=True)})"
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
    """Yield a chunked loss for each linear layer of the right size, the last one first, then one without a layer."""
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
