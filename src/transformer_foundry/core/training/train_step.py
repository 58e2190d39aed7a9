"""One optimizer update: forward and backward over the micro-batches, clipping, the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.data.dataloading.batches import count_tokens, move_batch
from transformer_foundry.core.models.adapter import bare_model
from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.system.distributed import SINGLE_PROCESS, ProcessGroup
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.optim.ema import EMA
from transformer_foundry.core.training.optim.optimizers import (
    OptimizerState,
    build_optimizers,
    capture_optimizers,
    restore_optimizers,
)
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["StepStats", "TrainStep"]


class StepStats(NamedTuple):
    """What forward and backward pass of a step measured, over all processes.

    Attributes:
        loss_sum: Summed loss, nats.
        target_count: Its target tokens.
        token_count: Real tokens that went into the model.
        grad_norm: Norm of the gradient before clipping.
    """

    loss_sum: float
    target_count: int
    token_count: int
    grad_norm: float

    @property
    def loss(self) -> float:
        """Mean loss of a target, nats."""
        return self.loss_sum / max(1, self.target_count)


class TrainStep:
    """Model, optimizers and scaler, and the one way to take a step with them.

    Args:
        adapter: The model; moved to the device of ``precision``, trained in place.
        objective: Its loss.
        options: Optimizer, clipping, smoothing.
        precision: Device and number format.
        processes: Those that share each step.

    Attributes:
        forward_model: What is called: ``adapter``, or a compiled translation of it.
        savings: What saves memory in each pass.
        is_torn: Whether weights have begun to move in a step that is not settled.
    """

    def __init__(
        self,
        adapter: nn.Module,
        objective: TaskLoss,
        options: TrainingOptions,
        precision: Precision,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.adapter = adapter.to(precision.device)
        self.forward_model = self.adapter
        self.savings = MemorySavings()
        self.objective, self.precision, self._processes = objective, precision, processes
        self._model = bare_model(adapter)
        contract = getattr(adapter, "contract", None)
        output_size = None if contract is None else contract.output_size
        self._optimizers = build_optimizers(self._model, options, output_size=output_size)
        self.scaler = precision.scaler()
        self._parameters = [parameter for group in self.groups for parameter in group["params"]]
        self.average = None if options.ema_decay is None else EMA(self._model, options.ema_decay)
        self.is_mid_update = False
        self._max_norm = options.max_grad_norm or float("inf")
        self.label_smoothing = options.label_smoothing

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers; restoring makes new ones."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def accumulate(self, batches: Sequence[Batch]) -> StepStats:
        """Compute the clipped gradient of the mean loss over all targets of a step; ``apply`` or ``skip`` it then.

        Dividing by the targets of the whole step, not of each micro-batch, makes the result independent of how the
        rows are split into micro-batches and processes.

        Args:
            batches: This process's micro-batches of the step, on the CPU.
        """
        counts = [sum(map(self.objective.count_targets, batches)), sum(map(count_tokens, batches))]
        target_count, token_count = map(int, self._processes.all_reduce_sum(counts, self.precision.device))
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.stack([self._backward(batch, max(1, target_count)) for batch in batches]).sum()
        self._processes.all_reduce_tensor(loss_sum)
        self._processes.all_reduce_gradients(self._parameters)
        self._processes.broadcast_buffers(self._model)
        for optimizer in self._optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
        # The one place that waits for the device: whether a step may be taken is known before it is.
        measured = torch.stack([loss_sum, grad_norm.to(loss_sum)]).tolist()
        return StepStats(measured[0], target_count, token_count, measured[1])

    def apply(self, learning_rate: float, step: int) -> None:
        """Move the weights along the gradient; call ``commit`` after it.

        Args:
            learning_rate: Of this step.
            step: Its number, from 1.
        """
        for group in self.groups:
            group["lr"] = learning_rate
        self.is_mid_update = True
        for optimizer in self._optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(step)

    def skip(self) -> None:
        """Leave the weights as they are, but let a scaler learn from the overflow; call ``commit`` after it."""
        self.is_mid_update = True
        if self.scaler.is_enabled():
            self.scaler.update()

    def commit(self) -> None:
        """Say that the step has been counted: an interrupt between the two would leave a state of no step."""
        self.is_mid_update = False

    def capture(self, copy: Callable[[Tensor], Tensor]) -> OptimizerState:
        """Copy the state of the optimizers, and the averaged weights, to the CPU by ``copy``."""
        state = capture_optimizers(self._optimizers, self._model, copy)
        averages = {} if self.average is None else self.average.capture(copy)
        return replace(state, tensors={**state.tensors, **averages})

    def restore(self, saved: OptimizerState) -> None:
        """Put back what ``capture`` returned.

        Raises:
            CheckpointError: If it belongs to other parameters.
        """
        restore_optimizers(self._optimizers, self._model, saved)
        if self.average is not None:
            self.average.restore(saved.tensors)

    def _backward(self, batch: Batch, target_count: int) -> Tensor:
        moved = move_batch(batch, self.precision.device)
        with self.savings.active(), self.precision.autocast():
            parts = self.objective.loss(self.forward_model, moved, label_smoothing=self.label_smoothing)
        if not parts.loss_sum.requires_grad:
            raise TrainingError(
                "The loss does not depend on any trainable parameter.",
                "Logits computed by the model's layers with gradients on were expected.",
                "Look in model.py for torch.no_grad, .detach() or .item() between the layers and the output.",
            )
        self.scaler.scale(parts.loss_sum / target_count).backward()
        return parts.loss_sum.detach()
