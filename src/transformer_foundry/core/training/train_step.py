"""One optimizer update: micro-batches that fit the memory, forward and backward passes, clipping, the step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.data.dataloading.batches import (
    BatchSource,
    count_tokens,
    move_batch,
    split_rows,
    step_share,
)
from transformer_foundry.core.models.adapter import bare_model
from transformer_foundry.core.models.losses import Batch, LossParts, TaskLoss
from transformer_foundry.core.system.distributed import SINGLE_PROCESS, ProcessGroup
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import rewind_on_failure, seed_random
from transformer_foundry.core.training.checkpointing.state import RunDecisions, TrainingState, restore_model
from transformer_foundry.core.training.compile import LossFunction
from transformer_foundry.core.training.memory.batch_size import halve, is_out_of_memory
from transformer_foundry.core.training.memory.planning import PlannedMemory
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.optim.ema import EMA
from transformer_foundry.core.training.optim.optimizers import OptimizerState, capture_optimizers, restore_optimizers

__all__ = ["GradientAccumulation", "StepStats", "TrainStep"]

_log = logging.getLogger(__name__)


class StepStats(NamedTuple):
    """Loss and gradient norm of a step over all processes, before its update.

    Attributes:
        loss_sum: Summed loss, nats.
        target_count: Target tokens of the step.
        token_count: Real tokens that went into the model.
        grad_norm: Norm of the gradient before clipping.
    """

    loss_sum: float
    target_count: int
    token_count: int
    grad_norm: float

    @property
    def loss(self) -> float:
        """Mean loss per target, nats."""
        return self.loss_sum / max(1, self.target_count)


@dataclass
class TrainStep:
    """Model, loss and optimizers of an update, and the one way to take it.

    Attributes:
        adapter: The model, on the device of ``precision``; trained in place.
        objective: Its loss.
        optimizers: The optimizers that share its trainable parameters.
        precision: Device and number format.
        scaler: Gradient scaler; disabled except in half precision.
        average: Averaged weights, if they are kept.
        max_grad_norm: Gradients are scaled down to this norm; ``inf`` turns clipping off.
        label_smoothing: Share of the target probability spread over all classes.
        processes: The processes that share each step.
        savings: The memory savings of each pass.
        compiled_loss: The compiled ``loss``, which is called instead of it.
        is_mid_update: Whether weights have begun to change in a step that is not committed.
    """

    adapter: nn.Module
    objective: TaskLoss
    optimizers: Sequence[torch.optim.Optimizer]
    precision: Precision
    scaler: torch.amp.GradScaler
    average: EMA | None = None
    max_grad_norm: float = math.inf
    label_smoothing: float = 0.0
    processes: ProcessGroup = SINGLE_PROCESS
    savings: MemorySavings = field(default_factory=MemorySavings)
    compiled_loss: LossFunction | None = None
    is_mid_update: bool = False

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers; restoring makes new ones."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @cached_property
    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.groups for parameter in group["params"]]

    def loss(self, batch: Batch) -> LossParts:
        """Return the training loss of a micro-batch on the device; differentiable."""
        return self.objective.loss(self.adapter, batch, label_smoothing=self.label_smoothing)

    def accumulate(self, batches: Sequence[Batch]) -> StepStats:
        """Compute the clipped gradient of the mean loss over all targets of a step, for ``apply`` or ``skip``.

        Dividing by the targets of the whole step, not of each micro-batch, makes the result independent of how the
        rows are split into micro-batches and processes.

        Args:
            batches: This process's micro-batches of the step, on the CPU.
        """
        counts = [sum(map(self.objective.count_targets, batches)), sum(map(count_tokens, batches))]
        target_count, token_count = map(int, self.processes.all_reduce_sum(counts, self.precision.device))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses = [self._backward(batch, max(1, target_count)) for batch in batches]
        # A process may have no row of the last, short batch of an epoch.
        loss_sum = torch.stack(losses).sum() if losses else torch.zeros((), device=self.precision.device)
        self.processes.all_reduce_tensor(loss_sum)
        self.processes.all_reduce_gradients(self._parameters)
        self.processes.broadcast_buffers(bare_model(self.adapter))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self.max_grad_norm)
        # The one place that waits for the device: whether a step may be taken is known before it is.
        both = torch.stack([loss_sum, grad_norm.to(loss_sum)])
        # Of the first process: whether the step is taken, all must decide alike.
        measured = self.processes.broadcast_first(both).tolist()
        return StepStats(measured[0], target_count, token_count, measured[1])

    def apply(self, learning_rate: float, step: int) -> None:
        """Update the weights; call ``commit`` after it.

        Args:
            learning_rate: Learning rate of this step.
            step: Number of this step, from 1.
        """
        for group in self.groups:
            group["lr"] = learning_rate
        self.is_mid_update = True
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(step)

    def skip(self) -> None:
        """Leave the weights as they are, but lower the scale after an overflow; call ``commit`` after it."""
        self.is_mid_update = True
        if self.scaler.is_enabled():
            self.scaler.update()

    def commit(self) -> None:
        """Mark the step as counted: an interrupt before that would leave weights and counters of different steps."""
        self.is_mid_update = False

    def capture(self, copy: Callable[[Tensor], Tensor]) -> OptimizerState:
        """Copy the state of the optimizers, and the averaged weights, to the CPU by ``copy``."""
        state = capture_optimizers(self.optimizers, bare_model(self.adapter), copy)
        averages = {} if self.average is None else self.average.capture(copy)
        return replace(state, tensors={**state.tensors, **averages})

    def restore(self, state: TrainingState) -> None:
        """Restore model, optimizers, averaged weights and scaler from ``state``.

        Raises:
            CheckpointError: If it belongs to other parameters.
        """
        restore_model(bare_model(self.adapter), state.model)
        restore_optimizers(self.optimizers, bare_model(self.adapter), state.optimizer)
        if self.average is not None:
            self.average.restore(state.optimizer.tensors)
        if state.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(state.scaler))

    def _backward(self, batch: Batch, target_count: int) -> Tensor:
        moved = move_batch(batch, self.precision.device)
        with self.savings.active(), self.precision.autocast():
            parts = (self.compiled_loss or self.loss)(moved)
        if not parts.loss_sum.requires_grad:
            raise TrainingError(
                "The loss does not depend on any trainable parameter.",
                "Logits computed by the model's layers with gradients on were expected.",
                "Look in model.py for torch.no_grad, .detach() or .item() between the layers and the output.",
            )
        torch.autograd.backward(self.scaler.scale(parts.trained / target_count))
        return parts.loss_sum.detach()


@dataclass
class GradientAccumulation:
    """Computes the gradient of a step from this process's batches, in micro-batches that fit the memory.

    Attributes:
        batches_per_step: Batches of a step, over all processes.
        memory: The memory plan; its micro-batches are halved when memory runs out.
        decisions: Receives the plan, for the following sessions.
    """

    train_step: TrainStep
    batches: BatchSource
    batches_per_step: int
    memory: PlannedMemory
    decisions: RunDecisions
    processes: ProcessGroup
    seed: int

    def accumulate(self, position: int) -> StepStats:
        """Compute the gradient of the step whose first batch is at ``position``.

        When memory runs out the micro-batches are halved, and the step is computed again.

        Raises:
            TrainingError: If micro-batches of one row do not fit, or one of several processes has no memory left.
        """
        while True:
            stats = self._try(position)
            if stats is not None:
                return stats
            # The frames that held the tensors of the failed pass are gone only now.
            self.memory = replace(self.memory, plan=halve(self.memory.plan))
            self.decisions.memory = self.memory.decision()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _log.warning(self.memory.plan.lines[-1])

    def _try(self, position: int) -> StepStats | None:
        """Return the loss and norm of the gradient, or None if memory ran out."""
        share = step_share(self.batches, position, self.batches_per_step, self.processes)
        micro_batches = [piece for batch in share for piece in split_rows(batch, self.memory.plan.rows)]
        self._seed_dropout(position)
        try:
            with rewind_on_failure(self.train_step.precision.device):
                return self.train_step.accumulate(micro_batches)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            if self.processes.world_size > 1:
                raise TrainingError(
                    f"Process {self.processes.rank} of {self.processes.world_size} has no memory left.",
                    "Processes cannot agree on smaller micro-batches in the middle of a step.",
                    "Set training.memory_budget_gb below the memory of the smallest device.",
                ) from err
            return None

    def _seed_dropout(self, position: int) -> None:
        """Seed each of several processes with a stream of its own, which a resumed run draws again."""
        if self.processes.world_size > 1:
            words = np.random.SeedSequence([self.seed, position, self.processes.rank]).generate_state(1)
            seed_random(int(words[0]))
