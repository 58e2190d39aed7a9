"""The memory savings of a run, switched on together by the training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn

from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.training.memory.activation_checkpointing import (
    ActivationCheckpointing,
    verify_activation_checkpointing,
)
from transformer_foundry.core.training.memory.chunked_loss import ChunkedLoss, verify_chunked_loss

__all__ = ["MemorySavings", "verify_savings"]


@dataclass(frozen=True)
class MemorySavings:
    """The verified savings of a model; without any, ``active`` does nothing.

    Attributes:
        chunked_loss: Computes the loss in chunks.
        activation_checkpointing: Recomputes blocks in the backward pass.
        lines: A sentence for each saving that was tried.

    Example:
        >>> with savings.active():  # doctest: +SKIP
        ...     parts = objective.loss(adapter, batch)
        >>> parts.loss_sum.backward()  # doctest: +SKIP
    """

    chunked_loss: ChunkedLoss | None = None
    activation_checkpointing: ActivationCheckpointing | None = None
    lines: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether there is a saving."""
        return self.chunked_loss is not None or self.activation_checkpointing is not None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Use the savings in a forward pass and its loss, with or without gradients.

        The backward pass may run outside this context.
        """
        with ExitStack() as stack:
            for saving in (self.chunked_loss, self.activation_checkpointing):
                if saving is not None:
                    stack.enter_context(saving.active())
            yield

    def limited_to(self, *, chunked_loss: bool, activation_checkpointing: bool) -> MemorySavings:
        """Return only the selected savings."""
        return MemorySavings(
            self.chunked_loss if chunked_loss else None,
            self.activation_checkpointing if activation_checkpointing else None,
            self.lines,
        )


def verify_savings(
    adapter: nn.Module,
    objective: TaskLoss,
    batch: Batch,
    *,
    chunked_loss: bool = True,
    activation_checkpointing: bool = True,
    label_smoothing: float = 0.0,
) -> MemorySavings:
    """Return the selected savings that ``adapter`` can use, with a line about each.

    Args:
        adapter: The model, in float32, not wrapped for several processes.
        objective: Its loss.
        batch: A small batch on the model's device: two rows of a dozen tokens are enough.
        chunked_loss: Whether to verify the chunked loss.
        activation_checkpointing: Whether to verify checkpointing of the blocks.
        label_smoothing: As in training.
    """
    chunked = checkpointing = None
    lines = []
    if chunked_loss:
        chunked, result = verify_chunked_loss(adapter, objective, batch, label_smoothing=label_smoothing)
        lines.append(f"Chunked loss: {result.line}.")
    if activation_checkpointing:
        checkpointing, result = verify_activation_checkpointing(adapter, objective, batch)
        lines.append(f"Activation checkpointing: {result.line}.")
    return MemorySavings(chunked, checkpointing, tuple(lines))
