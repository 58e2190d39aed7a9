"""The state of training: everything that going on from a step needs, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.system.random_state import RandomState
from transformer_foundry.core.training.optim.optimizers import AVERAGE_SLOT, OptimizerState

__all__ = ["Counters", "TrainingState", "capture_model", "copy_to_cpu", "expected_size_bytes", "restore_model"]


@dataclass
class Counters:
    """How far training is and what it remembers between steps; plain values only.

    Attributes:
        step: Optimizer updates done.
        position: Micro-batches consumed: where the data goes on.
        tokens_seen: Real (not padding) tokens that went into the model.
        is_recorded: Whether the metrics of ``step`` have been yielded; false only after an interrupt.
        window_losses: Summed loss of each update since the last record.
        window_targets: Target tokens of each update since the last record.
        grad_norm: Norm of the newest gradient before clipping.
        best_loss: Lowest validation loss so far.
        best_step: Its step.
        evaluations_since_best: Evaluations after ``best_step``.
        skipped_steps: Steps in a row, up to this one, that were skipped.
        total_skipped_steps: All steps that were skipped.
        rollbacks: How often training went back to a checkpoint.
        learning_rate_scale: Share of the planned learning rate: halved at each return to a checkpoint.
        judged_steps: Steps behind ``loss_mean`` and ``loss_variance``.
        loss_mean: Running mean of the loss of a step, nats.
        loss_variance: Its running variance.
        is_compiled: Whether the run trains a translation by torch.compile; None if that was not asked.
        memory_plan: How the run keeps within its memory; see ``planning.plan_memory``.
        trained_s: Seconds that count against ``training.max_hours``, over all sessions; 0 without a budget.
        time_plan: The plan of a run with ``training.max_hours``; see ``time_budget``.
        metrics: The newest value of each metric.
    """

    step: int = 0
    position: int = 0
    tokens_seen: int = 0
    is_recorded: bool = True
    window_losses: list[float] = field(default_factory=list)
    window_targets: list[int] = field(default_factory=list)
    grad_norm: float = 0.0
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    skipped_steps: int = 0
    total_skipped_steps: int = 0
    rollbacks: int = 0
    learning_rate_scale: float = 1.0
    judged_steps: int = 0
    loss_mean: float = 0.0
    loss_variance: float = 0.0
    is_compiled: bool | None = None
    memory_plan: dict[str, Any] | None = None
    trained_s: float = 0.0
    time_plan: list[list[float]] | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def copy(self) -> Counters:
        """Return a copy that shares nothing with this one."""
        return Counters(**{**dataclasses.asdict(self)})


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that training needs to go on as if it had not stopped; tensors lie on the CPU and belong to the state.

    Attributes:
        model: Name -> tensor of ``state_dict``; names of tied tensors share one tensor.
        optimizer: State by parameter name.
        scaler: State of the loss scaler; empty without half precision.
        random: State of the random number generators.
        counters: Step, position and what is remembered between steps.
        total_steps: Optimizer updates that were planned.
        batches_per_epoch: Micro-batches of one pass over the data.
        options: The training options by name.
        identity: What the state belongs to: digests by name (model code, config, data, tokenizer).
        precision: Number format it was computed in: ``fp32``, ``bf16`` or ``fp16``.
        device: Kind of device it was computed on.
        notes: What was noticed when the state was read; not saved.
        forked_from: Checkpoint of another run that this state comes from; not saved.
    """

    model: Mapping[str, Tensor] = field(repr=False)
    optimizer: OptimizerState = field(repr=False)
    scaler: Mapping[str, Any] = field(repr=False)
    random: RandomState = field(repr=False)
    counters: Counters
    total_steps: int
    batches_per_epoch: int
    options: Mapping[str, Any] = field(repr=False)
    identity: Mapping[str, str] = field(repr=False)
    precision: str = "fp32"
    device: str = "cpu"
    notes: tuple[str, ...] = ()
    forked_from: str = ""

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return self.counters.step

    @property
    def epoch(self) -> int:
        """Complete passes over the training data."""
        return self.counters.position // self.batches_per_epoch

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
        return self.counters.metrics


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
    copies: dict[tuple[Any, ...], Tensor] = {}
    captured: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{name} in the model's state_dict is a {type(tensor).__name__}.",
                "A checkpoint holds tensors only.",
                "Return a tensor from get_extra_state in model.py, or remove it.",
            )
        where = (tensor.data_ptr(), tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride())
        key = where if tensor.numel() else (name,)
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
