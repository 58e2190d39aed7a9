"""``Trainer``: the state of a training run and the operations of its loop."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import nn

from transformer_foundry.core.models.adapter import bare_model
from transformer_foundry.core.system.interrupts import hold_interrupts
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import RandomState, capture_random
from transformer_foundry.core.training.checkpointing.async_copy import StagingBuffers
from transformer_foundry.core.training.checkpointing.state import (
    LoopState,
    LossStatistics,
    StepBatch,
    TrainingState,
    capture_model,
)
from transformer_foundry.core.training.events import Checkpoint, CheckpointReason, Progress, Started
from transformer_foundry.core.training.monitoring import loss_spikes
from transformer_foundry.core.training.monitoring.metrics import ThroughputMonitor, TrainMetrics
from transformer_foundry.core.training.monitoring.time_budget import TimeBudget
from transformer_foundry.core.training.monitoring.triggers import Triggers
from transformer_foundry.core.training.monitoring.validator import Validator
from transformer_foundry.core.training.optim.learning_rate import learning_rate_at
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.train_step import GradientAccumulation, StepStats, TrainStep

__all__ = ["Trainer"]

_log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Trainer:
    """The parts of a training run, as ``build_trainer`` makes them, and the operations that ``fit`` calls.

    Attributes:
        identity: Digests by name of what the run belongs to.
        staging: The buffers that checkpoints are copied to.
        statistics: Statistics that loss spikes are detected with.
        random_at_start: Random state that training starts with.
        notes: Notes for the user before the first step.
        last_state: The newest checkpoint, to return to after loss spikes.
        is_interrupted: Whether an interrupt came while a record was made; it is raised after the record.
    """

    adapter: nn.Module
    options: TrainingOptions
    identity: Mapping[str, str]
    precision: Precision
    train_step: TrainStep
    accumulation: GradientAccumulation
    time_budget: TimeBudget
    triggers: Triggers
    validator: Validator
    metrics: TrainMetrics
    throughput: ThroughputMonitor
    staging: StagingBuffers
    loop: LoopState
    statistics: LossStatistics
    batches_per_epoch: int
    step_batch: StepBatch
    random_at_start: RandomState
    manifest: Mapping[str, Any]
    notes: tuple[str, ...]
    is_resumed: bool
    last_state: TrainingState | None
    is_interrupted: bool = False
    _fault: str | None = None
    _checkpoint_time: float = field(default_factory=time.monotonic)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run as planned now."""
        return self.time_budget.total_steps

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: all steps are taken, or the validation loss no longer falls."""
        return self.triggers.is_finished(self.loop, self.total_steps)

    @property
    def is_consistent(self) -> bool:
        """Whether weights and counters are of one step: not so after an interrupt in the middle of an update."""
        return not self.train_step.is_mid_update

    @property
    def must_roll_back(self) -> bool:
        """Whether so many steps in a row were skipped that training must return to a checkpoint."""
        limit = loss_spikes.MAX_OVERFLOWS if self._is_overflow else self.options.max_skipped_steps
        # A run that is shorter than the limit fails when all its steps are skipped.
        return self._fault is not None and self.statistics.skipped_steps >= min(limit, self.total_steps)

    def started(self) -> Started:
        """Return the first event."""
        return Started(
            self.loop.step, self.total_steps, self.is_resumed, self.manifest, self.notes, is_finished=self.is_finished
        )

    def step(self) -> None:
        """Take one optimizer step, or skip it if its loss or gradient is not finite or its loss is a spike."""
        loop = self.loop
        start, position = time.perf_counter(), loop.position
        with hold_interrupts():
            stats = self.accumulation.accumulate(position)
            self._fault = loss_spikes.detect_bad_step(stats, self.statistics, self.options.spike_threshold)
            self.finish_copy()  # nothing else changes weights or optimizer after a checkpoint
            if self._fault is None:
                self.train_step.apply(self._learning_rate(loop.step), loop.step + 1)
            else:
                self.train_step.skip()
            self._count_step(stats)
            self.train_step.commit()
        self.metrics.add_seconds(time.perf_counter() - start)
        self.time_budget.timer.add_step(time.perf_counter() - start, position)
        if self.time_budget.should_replan(loop.step):
            self._replan()

    def roll_back(self) -> Started:
        """Return to the last checkpoint with half the learning rate, and continue with the data that come next.

        Raises:
            TrainingError: If there is no checkpoint to return to, or returning has not helped before.
        """
        loop, state, skipped_steps = self.loop, self.last_state, self.statistics.skipped_steps
        assert self._fault is not None
        if self._is_overflow:
            raise loss_spikes.overflow_error(loop.step, skipped_steps)
        if state is None or loop.rollbacks >= loss_spikes.MAX_ROLLBACKS:
            raise loss_spikes.spike_error(
                self._fault,
                loop.step,
                skipped_steps,
                rollbacks=loop.rollbacks,
                learning_rate=self._learning_rate(loop.step - 1),
                peak_learning_rate=self.options.learning_rate,
            )
        note = (
            f"Steps {loop.step - skipped_steps + 1} to {loop.step} were skipped, in the last the {self._fault}: "
            f"back to step {state.step} with half the learning rate (return {loop.rollbacks + 1} of "
            f"{loss_spikes.MAX_ROLLBACKS})."
        )
        self.train_step.processes.require_same_step(state.step)
        _log.warning(note)
        with hold_interrupts():
            self.train_step.restore(state)
            self.metrics.window.load_state_dict(state.loss_window.state_dict())
            loss_spikes.restore_statistics(self.statistics, state.loss_statistics)
            self.time_budget.restore_points(state.time_plan)
            self.loop = dataclasses.replace(
                state.loop.copy(),
                position=loop.position,
                rollbacks=loop.rollbacks + 1,
                learning_rate_scale=loop.learning_rate_scale / 2,
            )
            self._fault = None
        return Started(state.step, self.total_steps, True, self.manifest, (note,))

    def record(self) -> Progress:
        """Return the metrics of this step; evaluate the model if that is due."""
        loop = self.loop
        metrics = self._training_metrics()
        samples: tuple[str, ...] = ()
        loss: float | None = None
        if self.triggers.evaluation_is_due(loop.step, self.total_steps):
            start = time.perf_counter()
            evaluation, samples = self._validate()
            seconds = time.perf_counter() - start
            self.time_budget.timer.add_evaluation(seconds, seconds)
            metrics |= evaluation
            loss = evaluation.get("eval/loss")
        record = Progress(loop.step, self.total_steps, metrics, samples)
        try:
            with hold_interrupts():
                if loss is not None:
                    self._update_best(loss)
                loop.metrics.update(metrics)
                self.metrics.clear_window()
                loop.is_recorded = True
        except KeyboardInterrupt:
            self.is_interrupted = True  # first the record: the state says that it was made
        return record

    def checkpoint_reason(self) -> CheckpointReason | None:
        """Return why a checkpoint is due now, or None; the first of several processes decides, by its clock."""
        reason = self.triggers.checkpoint_reason(
            self.loop,
            self.total_steps,
            unsaved_s=time.monotonic() - self._checkpoint_time,
            is_skipping=self.statistics.skipped_steps > 0 and not self._is_overflow,
        )
        processes = self.train_step.processes
        if processes.world_size == 1:
            return reason
        reasons: tuple[CheckpointReason | None, ...] = (None, *get_args(CheckpointReason))
        decided = torch.tensor(reasons.index(reason), device=self.precision.device)
        return reasons[int(processes.broadcast_first(decided))]

    def checkpoint(self, reason: CheckpointReason) -> Checkpoint:
        """Return a copy of the state; that of the optimizer is completed while training continues."""
        self.finish_copy()
        self.last_state = None  # one copy at a time
        time_plan = self.time_budget.capture_plan()
        model = capture_model(bare_model(self.adapter), self.staging.copy)
        optimizer = self.train_step.capture(self.staging.copy_later)
        state = TrainingState(
            model=model,
            optimizer=dataclasses.replace(optimizer, tensors=self.staging.begin(optimizer.tensors)),
            scaler=self.train_step.scaler.state_dict(),
            random=capture_random(self.precision.device),
            loop=self.loop.copy(),
            loss_window=self.metrics.window.copy(),
            loss_statistics=self.statistics.copy(),
            time_plan=time_plan,
            decisions=self.accumulation.decisions.copy(),
            step_batch=self.step_batch.copy(),
            total_steps=self.total_steps,
            batches_per_epoch=self.batches_per_epoch,
            options=dataclasses.asdict(self.options),
            identity=dict(self.identity),
            precision=self.precision.name,
            device=self.precision.device.type,
        )
        self.last_state = state
        self._checkpoint_time = time.monotonic()
        return Checkpoint(state.step, state.epoch, reason, dict(state.metrics), state)

    def finish_copy(self) -> None:
        """Wait until the newest copy of the state is complete: weights and optimizer may change after that."""
        self.staging.wait()

    @property
    def _is_overflow(self) -> bool:
        """Whether the last step was skipped because of an overflow, after which the scaler lowers its scale."""
        return self._fault == loss_spikes.GRADIENT_NOT_FINITE and self.train_step.scaler.is_enabled()

    def _count_step(self, stats: StepStats) -> None:
        loop = self.loop
        loop.step += 1
        loop.position += self.accumulation.batches_per_step
        is_first_skipped = self._fault is not None and not self.statistics.skipped_steps
        loss_spikes.update_statistics(stats, self._fault, self.statistics)
        if is_first_skipped and not self._is_overflow:
            _log.warning("Step %d is skipped: the %s.", loop.step, self._fault)
        self.metrics.add(stats, is_skipped=self._fault is not None)
        loop.is_recorded = not self.triggers.record_is_due(loop.step, self.total_steps)

    def _learning_rate(self, step: int) -> float:
        place = self.time_budget.schedule_step(step)
        return learning_rate_at(place, self.total_steps, self.options) * self.loop.learning_rate_scale

    def _replan(self) -> None:
        """Measure the steps, plan the rest where hours are given, and log a forecast."""
        timer = self.time_budget.timer
        if timer.evaluation_s is None:
            start = time.perf_counter()
            expected = self.validator.estimate_seconds()
            timer.add_evaluation(expected, time.perf_counter() - start)
        timing = self.time_budget.replan(self.loop.step)
        forecast = self.time_budget.forecast(
            self.loop.step,
            timing,
            tokens_seen=self.metrics.window.tokens_seen,
            parameter_count=sum(parameter.numel() for parameter in bare_model(self.adapter).parameters()),
        )
        # A training that logs its loss only at the end, such as a trial of a search, is not watched.
        if forecast is not None and self.options.logging_steps < self.total_steps:
            _log.info(forecast)

    def _training_metrics(self) -> dict[str, float]:
        metrics = self.metrics.compute(self.statistics.total_skipped_steps)
        return {
            **metrics,
            **self.throughput.metrics(metrics["train/tokens_per_second"]),
            "train/learning_rate": self._learning_rate(self.loop.step - 1),
            "train/epoch": self.loop.step * self.accumulation.batches_per_step / self.batches_per_epoch,
        }

    def _validate(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """Evaluate the averaged weights if they are kept, else the trained ones."""
        if self.train_step.average is None:
            return self.validator.validate(self.loop.step)
        with self.train_step.average.in_place_of_weights(hold_interrupts):
            return self.validator.validate(self.loop.step)

    def _update_best(self, loss: float) -> None:
        loop = self.loop
        if loop.best_loss is None or loss < loop.best_loss:
            loop.best_loss, loop.best_step, loop.evaluations_since_best = loss, loop.step, 0
        else:
            loop.evaluations_since_best += 1
        if self.triggers.is_stopped_early(loop):
            _log.info(
                "Stopping early at step %d: the validation loss was lowest at step %d.", loop.step, loop.best_step
            )
