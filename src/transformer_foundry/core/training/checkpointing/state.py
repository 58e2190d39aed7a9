"""The state of training: everything that resuming from a step needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.system.random_state import RandomState
from transformer_foundry.core.system.tensors import memory_key
from transformer_foundry.core.training.optim.optimizers import AVERAGE_SLOT, OptimizerState

__all__ = [
    "CheckpointedState",
    "LoopState",
    "LossStatistics",
    "LossWindow",
    "MemoryDecision",
    "PlannedEnd",
    "RunDecisions",
    "StepBatch",
    "TimePlan",
    "TrainingState",
    "capture_model",
    "copy_to_cpu",
    "expected_size_bytes",
    "restore_model",
]


@dataclass
class CheckpointedState:
    """Base of the states that a checkpoint keeps as JSON; each is written by one part of the trainer only."""

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as values for JSON that share nothing with this state."""
        return dataclasses.asdict(self)

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take over the fields in ``values``: unknown names are ignored, fields that are missing stay as they are."""
        for name in self.__dataclass_fields__:
            if name in values:
                setattr(self, name, deepcopy(values[name]))

    def copy(self) -> Self:
        """Return a copy that shares nothing with this state."""
        return deepcopy(self)


@dataclass
class LoopState(CheckpointedState):
    """How far training is; written by ``Trainer``.

    Attributes:
        step: Optimizer updates done, skipped ones included.
        position: Batches consumed: the index of the next one. A batch has ``StepBatch.rows_per_batch`` rows, whatever
            the number of processes.
        is_recorded: Whether the metrics of ``step`` have been yielded; false only after an interrupt.
        best_loss: Lowest validation loss so far.
        best_step: The step of ``best_loss``.
        evaluations_since_best: Evaluations after ``best_step``.
        rollbacks: Number of returns to a checkpoint.
        learning_rate_scale: Share of the planned learning rate: halved at each return to a checkpoint.
        metrics: The newest value of each metric.
    """

    step: int = 0
    position: int = 0
    is_recorded: bool = True
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    rollbacks: int = 0
    learning_rate_scale: float = 1.0
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class LossWindow(CheckpointedState):
    """Losses of the steps since the last record; written by ``monitoring.metrics.TrainMetrics``.

    Attributes:
        losses: Summed loss of each update, nats; skipped updates are left out.
        targets: Target tokens of each update.
        grad_norm: Norm of the newest gradient before clipping.
        tokens_seen: Real (not padding) tokens that went into the model since the run began.
    """

    losses: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    grad_norm: float = 0.0
    tokens_seen: int = 0


@dataclass
class LossStatistics(CheckpointedState):
    """Running statistics that loss spikes are detected with; written by ``monitoring.loss_spikes``.

    Attributes:
        skipped_steps: Skipped steps in a row, up to the newest step.
        total_skipped_steps: All steps that were skipped.
        count: Steps behind ``mean`` and ``variance``.
        mean: Running mean of the loss of a step, nats.
        variance: Its running variance.
    """

    skipped_steps: int = 0
    total_skipped_steps: int = 0
    count: int = 0
    mean: float = 0.0
    variance: float = 0.0


class PlannedEnd(NamedTuple):
    """One point of a time plan: where a run with ``training.max_hours`` was to end, as planned at ``step``.

    Attributes:
        step: The step at which it was planned.
        share: Share of the learning-rate schedule that was done at ``step``.
        last_step: The planned number of steps of the whole run.
        step_s: Seconds of a step, its share of evaluations included.
    """

    step: int
    share: float
    last_step: int
    step_s: float


@dataclass
class TimePlan(CheckpointedState):
    """The plan of a run with ``training.max_hours``; written by ``monitoring.time_budget.TimeBudget``.

    Attributes:
        trained_s: Seconds that count against the budget, over all sessions; 0 without a budget.
        points: The plans so far, the newest last; empty before the first one.
    """

    trained_s: float = 0.0
    points: tuple[PlannedEnd, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as values for JSON; None stands for no points."""
        return {"trained_s": self.trained_s, "points": [list(point) for point in self.points] or None}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take over the fields in ``values``."""
        if "points" in values:
            values = {**values, "points": tuple(PlannedEnd(*point) for point in values["points"] or ())}
        super().load_state_dict(values)


@dataclass(frozen=True)
class MemoryDecision:
    """How a run keeps within its memory, as decided in its first session.

    Attributes:
        rows: Rows of a micro-batch.
        chunked_loss: Whether the loss is computed in chunks.
        activation_checkpointing: Whether activations are recomputed in the backward pass.
        budget_bytes: The limit that this was decided for; None if none was set.
    """

    rows: int
    chunked_loss: bool
    activation_checkpointing: bool
    budget_bytes: int | None


@dataclass
class RunDecisions(CheckpointedState):
    """What the first session of a run decided for all of them; written by ``build_trainer`` and when memory runs out.

    Attributes:
        memory: Micro-batch and memory savings; None before the first step.
        is_compiled: Whether the model is compiled; None if ``training.compile`` has always been off.
    """

    memory: MemoryDecision | None = None
    is_compiled: bool | None = None

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Take over the fields in ``values``."""
        if values.get("memory") is not None:
            known = {field.name for field in dataclasses.fields(MemoryDecision)}
            decision = {name: value for name, value in values["memory"].items() if name in known}
            values = {**values, "memory": MemoryDecision(**decision)}
        super().load_state_dict(values)


@dataclass
class StepBatch(CheckpointedState):
    """The rows of a step, which a run keeps however many processes share them; written by ``build_trainer``.

    Attributes:
        rows_per_batch: Rows of a batch, in which the order of the data is counted; None in checkpoints of earlier
            versions.
        batches_per_step: Batches of a step, over all processes; None in checkpoints of earlier versions.
        world_size: Processes of the session that wrote the checkpoint; None in checkpoints of earlier versions.
    """

    rows_per_batch: int | None = None
    batches_per_step: int | None = None
    world_size: int | None = None

    @property
    def rows_per_step(self) -> int:
        """Rows of a step, over all processes; 0 if they are not known."""
        return (self.rows_per_batch or 0) * (self.batches_per_step or 0)


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that training needs to resume as if it had not stopped; its tensors are on the CPU and its own.

    Attributes:
        model: Name -> tensor of ``state_dict``; names of tied tensors share one tensor.
        optimizer: State by parameter name.
        scaler: State of the loss scaler; empty without half precision.
        random: State of the random number generators.
        loop: How far training is.
        loss_window: Losses since the last record.
        loss_statistics: Statistics that loss spikes are detected with.
        time_plan: The plan of a run with ``training.max_hours``.
        decisions: What the first session decided for all of them.
        step_batch: The rows of a step, and how many processes shared them.
        total_steps: Optimizer updates that were planned.
        batches_per_epoch: Micro-batches of one pass over the data.
        options: The training options by name.
        identity: What the state belongs to: digests by name (model code, config, data, tokenizer).
        precision: Number format it was computed in: ``fp32``, ``bf16`` or ``fp16``.
        device: Kind of device it was computed on.
        notes: Notes for the user from reading the state; not saved.
        forked_from: Checkpoint of another run that this state comes from; not saved.
        made_from: Digests of model, data, tokenizer and weights, and the step, of the checkpoint that this state was
            read from; not saved.
    """

    model: Mapping[str, Tensor] = field(repr=False)
    optimizer: OptimizerState = field(repr=False)
    scaler: Mapping[str, Any] = field(repr=False)
    random: RandomState = field(repr=False)
    loop: LoopState
    loss_window: LossWindow
    loss_statistics: LossStatistics
    time_plan: TimePlan
    decisions: RunDecisions
    total_steps: int
    batches_per_epoch: int
    options: Mapping[str, Any] = field(repr=False)
    identity: Mapping[str, str] = field(repr=False)
    precision: str = "fp32"
    device: str = "cpu"
    notes: tuple[str, ...] = ()
    step_batch: StepBatch = field(default_factory=StepBatch)
    forked_from: str = ""
    made_from: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def checkpointed(self) -> dict[str, CheckpointedState]:
        """The states that are kept as JSON, by the names of their fields."""
        return {name: value for name, value in vars(self).items() if isinstance(value, CheckpointedState)}

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return self.loop.step

    @property
    def epoch(self) -> int:
        """Complete passes over the training data."""
        return self.loop.position // self.batches_per_epoch

    @property
    def evaluated_model(self) -> Mapping[str, Tensor]:
        """The weights that are evaluated and published: the averaged ones where an average is kept."""
        prefix = f"{AVERAGE_SLOT}/"
        averages = {
            id(self.model[name.removeprefix(prefix)]): average
            for name, average in self.optimizer.tensors.items()
            if name.startswith(prefix)
        }
        return {name: averages.get(id(tensor), tensor) for name, tensor in self.model.items()}

    @property
    def metrics(self) -> Mapping[str, float]:
        """The newest value of each metric."""
        return self.loop.metrics


def copy_to_cpu(tensor: Tensor) -> Tensor:
    """Return a copy of ``tensor`` on the CPU."""
    return tensor.detach().to("cpu", copy=True)


def capture_model(model: nn.Module, copy: Callable[[Tensor], Tensor] = copy_to_cpu) -> dict[str, Tensor]:
    """Copy the weights and buffers of ``model`` to the CPU; names of one tensor (tied weights) get one copy.

    Args:
        model: The model.
        copy: Makes a copy on the CPU.

    Raises:
        CheckpointError: If a module keeps something else than tensors in its ``state_dict``.
    """
    copies: dict[Hashable, Tensor] = {}
    captured: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{name} in the model's state_dict is a {type(tensor).__name__}.",
                "A checkpoint holds tensors only.",
                "Return a tensor from get_extra_state in model.py, or remove it.",
            )
        key = memory_key(tensor)
        if key not in copies:
            copies[key] = copy(tensor)
        captured[name] = copies[key]
    return captured


def expected_size_bytes(model: nn.Module) -> int:
    """Return about how large a checkpoint of ``model`` is: its tensors, and two of float32 for each trained one."""
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values() if isinstance(tensor, Tensor)}
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + 2 * 4 * trained


def restore_model(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put ``saved`` into ``model``, in place: ties and views of the model stay what they are.

    Raises:
        CheckpointError: If names or shapes differ.
    """
    current = model.state_dict()
    differing = sorted(current.keys() ^ saved.keys())
    differing += [name for name in current if name in saved and current[name].shape != saved[name].shape]
    if differing:
        raise CheckpointError(
            f"The weights of the checkpoint do not fit the model: {', '.join(differing[:5])}"
            f"{f' and {len(differing) - 5} more' if len(differing) > 5 else ''}.",
            "The same names and shapes were expected.",
            "Use the model that the checkpoint was made with, or start another run with run.name=NEW.",
        )
    # Equal tensors are left alone: a constant buffer made by expand() cannot be written to.
    changed = {name: value for name, value in saved.items() if not _is_equal(current[name], value)}
    with torch.no_grad():
        model.load_state_dict(changed, strict=False)


def _is_equal(tensor: Tensor, saved: Tensor) -> bool:
    return tensor.dtype == saved.dtype and torch.equal(tensor.detach().cpu(), saved)
