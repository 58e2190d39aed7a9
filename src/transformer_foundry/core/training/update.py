"""One optimizer update: forward and backward over the micro-batches, clipping, the step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from transformer_foundry.core.errors import TrainingError
from transformer_foundry.core.training.objectives import Batch, Objective
from transformer_foundry.core.training.optimizers import build_optimizer
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.precision import Precision
from transformer_foundry.core.training.state import bare_model

__all__ = ["Update", "Updater", "hold_interrupts", "move_batch"]


class Update(NamedTuple):
    """What an update measured; tensors stay on the device, so that nobody waits for it."""

    loss_sum: Tensor
    target_count: int
    token_count: int
    grad_norm: Tensor


class Updater:
    """Model, optimizer and scaler, and the one way to take a step with them.

    Args:
        adapter: The model; moved to the device of ``precision``, trained in place.
        objective: Its loss.
        options: Optimizer, clipping, smoothing.
        precision: Device and number format.

    Attributes:
        is_torn: Whether weights have begun to move in a step that is not settled.
    """

    def __init__(
        self, adapter: nn.Module, objective: Objective, options: TrainingOptions, precision: Precision
    ) -> None:
        self.adapter = adapter.to(precision.device)
        self.objective = objective
        self.precision = precision
        self.optimizer = build_optimizer(bare_model(adapter), options)
        self.scaler = precision.scaler()
        self._parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.is_torn = False
        self._max_norm = options.max_grad_norm or float("inf")
        self._label_smoothing = options.label_smoothing

    def update(self, batches: Sequence[Batch], learning_rate: float) -> Update:
        """Take one optimizer step on the mean loss over all target tokens of ``batches``; call ``settle`` after it.

        Dividing by the targets of the whole step, not of each micro-batch, makes the result independent of how the
        rows are split into micro-batches.

        Args:
            batches: The micro-batches of the step, on the CPU.
            learning_rate: Of this step.
        """
        target_count = sum(self.objective.count_targets(batch) for batch in batches)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.stack([self._backward(batch, max(1, target_count)) for batch in batches]).sum()
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.is_torn = True
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Update(loss_sum, target_count, sum(map(_count_tokens, batches)), grad_norm.detach().float())

    def settle(self) -> None:
        """Say that the step has been counted: an interrupt between the two would leave a state of no step."""
        self.is_torn = False

    def _backward(self, batch: Batch, target_count: int) -> Tensor:
        moved = move_batch(batch, self.precision.device)
        with self.precision.autocast():
            parts = self.objective.loss(self.adapter, moved, label_smoothing=self._label_smoothing)
        if not parts.loss_sum.requires_grad:
            raise TrainingError(
                "The loss does not depend on any trainable parameter.",
                "Logits computed by the model's layers with gradients on were expected.",
                "Look in model.py for torch.no_grad, .detach() or .item() between the layers and the output.",
            )
        self.scaler.scale(parts.loss_sum / target_count).backward()
        return parts.loss_sum.detach()


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """Return ``batch`` on ``device``."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Delay a first SIGINT until the body is done, so that a step is taken as a whole or not at all.

    A second one interrupts at once. Outside the main thread, where Python delivers no signals, nothing is done.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    held: list[FrameType | None] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            previous(number, frame)
        held.append(frame)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held:
            previous(signal.SIGINT, held[0])


def _count_tokens(batch: Batch) -> int:
    masks = [batch[name] for name in ("attention_mask", "decoder_attention_mask") if name in batch]
    return sum(int(mask.sum()) for mask in masks) or batch["input_ids"].numel()
