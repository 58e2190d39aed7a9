"""The events that ``fit`` yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = ["VOLATILE_METRICS", "Checkpoint", "CheckpointReason", "Event", "Progress", "Started"]

CheckpointReason = Literal["steps", "minutes", "epoch", "end", "interrupt", "best"]

VOLATILE_METRICS = (
    "train/tokens_per_second",
    "train/step_seconds",
    "train/memory_gb",
    "train/mfu",
    "eval/seconds",
)
"""Metrics that depend on the machine: all others of a resumed run equal those of an uninterrupted one."""


@dataclass(frozen=True)
class Started:
    """Training starts or resumes from ``step``; always the first event.

    Another one follows a return to a checkpoint: the events of later steps are then void.

    Attributes:
        step: Optimizer updates already done.
        total_steps: Optimizer updates when training is complete.
        resumed: Whether ``step`` was reached in an earlier session.
        manifest: The run's manifest; see ``run_manifest.describe_run``.
        notes: Sentences for the user: what was skipped, what has changed, why nothing is left to do.
        is_finished: Whether nothing is left to do.
        samples: What the model writes before its first step, if that was rehearsed.
    """

    step: int
    total_steps: int
    resumed: bool
    manifest: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()
    is_finished: bool = False
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Metrics of a step; it precedes the checkpoint of the same step.

    Attributes:
        step: Optimizer updates done.
        total_steps: Optimizer updates when training is complete.
        metrics: Names like ``train/loss`` (mean over the target tokens since the last record, nats per token).
        samples: Samples of the model's output, if this step was evaluated.
    """

    step: int
    total_steps: int
    metrics: Mapping[str, float]
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training needs to resume from ``step`` as if it had not stopped.

    Attributes:
        step: Optimizer updates done.
        epoch: Complete passes over the training data.
        reason: Why the checkpoint was made.
        metrics: The newest value of each metric.
        state: Weights, optimizer and everything else, copied to the CPU: later steps do not change it.
    """

    step: int
    epoch: int
    reason: CheckpointReason
    metrics: Mapping[str, float]
    state: TrainingState = field(repr=False)


Event: TypeAlias = Started | Progress | Checkpoint
