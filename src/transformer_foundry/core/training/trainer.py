"""One call of ``fit``: what it was given, where it is, and the single acts of its story."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from transformer_foundry.core.data.dataloading.batches import training_batches
from transformer_foundry.core.evaluation.samples import TextDecoder
from transformer_foundry.core.models.adapter import bare_model
from transformer_foundry.core.models.losses import task_loss_for
from transformer_foundry.core.system.distributed import join_processes
from transformer_foundry.core.system.interrupts import hold_interrupts
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.system.random_state import RandomState, capture_random, preserve_random, seed_random
from transformer_foundry.core.training.checkpointing.async_copy import StagingBuffers
from transformer_foundry.core.training.checkpointing.compatibility import check_resume, starting_counters
from transformer_foundry.core.training.checkpointing.run_manifest import describe_run
from transformer_foundry.core.training.checkpointing.state import (
    TrainingState,
    capture_model,
    expected_size_bytes,
    restore_model,
)
from transformer_foundry.core.training.events import Checkpoint, CheckpointReason, Progress, Started
from transformer_foundry.core.training.gradient_accumulation import GradientAccumulation
from transformer_foundry.core.training.monitoring import loss_spikes
from transformer_foundry.core.training.monitoring.metrics import ThroughputMonitor, TrainMetrics
from transformer_foundry.core.training.monitoring.preflight import (
    plan_steps,
    remarks_before,
    require_even_shares,
    require_fit,
)
from transformer_foundry.core.training.monitoring.step_timing import StepSizes
from transformer_foundry.core.training.monitoring.time_budget import TimeBudget, schedule_step
from transformer_foundry.core.training.monitoring.triggers import Triggers
from transformer_foundry.core.training.monitoring.validator import Validator
from transformer_foundry.core.training.optim.lr_schedule import learning_rate_at
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.train_step import StepStats, TrainStep

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["Trainer"]

_log = logging.getLogger(__name__)


class Trainer:
    """A model, its data, its options and how far training is. See ``fit`` for the arguments."""

    def __init__(
        self,
        adapter: nn.Module,
        splits: TokenSplits,
        options: TrainingOptions,
        *,
        tokenizer: TextDecoder | None = None,
        resume_from: TrainingState | None = None,
        identity: Mapping[str, str] | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        require_fit(adapter, splits)
        self.adapter, self.splits, self.options = adapter, splits, options
        self.precision = choose_precision(options.device, options.precision)
        self.device = self.precision.device
        self._processes = join_processes(self.device)
        require_even_shares(options, self._processes.world_size)
        self.identity = {"data": splits.fingerprint, **(identity or {})}
        rows = options.rows_per_batch(self._processes.world_size)
        self._batches = training_batches(splits, batch_size=rows, seed=options.seed)
        planned_steps = plan_steps(options, len(self._batches), self._processes.world_size)
        self._resumed = resume_from is not None
        self.counters = starting_counters(resume_from, options, self.identity)
        sizes = StepSizes(
            self._batches, options.gradient_accumulation_steps * self._processes.world_size, self._processes
        )
        self._time_budget = TimeBudget(
            options, self.counters, planned_steps, sizes, resumed=resume_from, processes=self._processes
        )
        self.total_steps = self._time_budget.total_steps
        self._notes = self._check(resume_from)
        self._train_step = TrainStep(adapter, task_loss_for(splits.task), options, self.precision, self._processes)
        self.random_at_start = self._restore(resume_from)
        self._accumulator = GradientAccumulation(
            self._train_step,
            self._batches,
            splits,
            options,
            self._processes,
            self.counters,
            self.total_steps,
            self._time_budget.left_s(),
        )
        self._batches_per_step = self._accumulator.batches_per_step
        self._validator = Validator(
            adapter,
            splits,
            self.precision,
            self._accumulator.savings,
            self._processes,
            tokenizer,
            batch_size=options.rows_per_evaluation_batch,
            max_batches=options.eval_batches,
            samples=options.samples,
            seed=options.seed,
        )
        self._throughput = ThroughputMonitor(bare_model(adapter), self.precision)
        self._train_metrics = TrainMetrics()
        self._last_state = resume_from
        self._fault: str | None = None
        self._manifest = describe_run(
            options, self.identity, step=self.counters.step, total_steps=self.total_steps, extra=manifest
        )
        self._manifest["checkpoint_bytes"] = expected_size_bytes(bare_model(adapter))
        self._buffers = StagingBuffers()
        # A copy for nobody: memory that is written for the first time costs more than a save, so it is done beforehand.
        capture_model(bare_model(adapter), self._buffers.copy_later)
        self._buffers.begin({})
        self._checkpoint_time = time.monotonic()
        self._triggers = Triggers(options, len(splits.validation) > 0, len(self._batches), self._batches_per_step)
        self.is_interrupted = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: all steps are taken, or the validation loss no longer falls."""
        return self._triggers.is_finished(self.counters, self.total_steps)

    @property
    def is_consistent(self) -> bool:
        """Whether weights and counters are of one step: not so after an interrupt in the middle of an update."""
        return not self._train_step.is_mid_update

    @property
    def is_in_trouble(self) -> bool:
        """Whether so many steps in a row were skipped that training must go back."""
        return self._fault is not None and loss_spikes.is_in_trouble(
            self.counters, self.options, self.total_steps, is_overflow=self._is_overflow
        )

    def started(self) -> Started:
        """Return the first record."""
        plans = [] if self.is_finished else self._accumulator.notes
        remarks = remarks_before(self._triggers, self.counters, self.total_steps)
        notes = (*self._notes, *remarks, *plans)
        return Started(self.counters.step, self.total_steps, self._resumed, self._manifest, notes)

    def step(self) -> None:
        """Take one optimizer step, or skip it when its loss or gradient is out of line."""
        counters = self.counters
        began, position = time.perf_counter(), counters.position
        with hold_interrupts():
            gradients = self._accumulator.accumulate(position)
            self._fault = loss_spikes.detect_bad_step(gradients, counters, self.options)
            self.finish_copy()  # nothing else changes weights or optimizer after a checkpoint
            if self._fault is None:
                self._train_step.apply(self._learning_rate(counters.step), counters.step + 1)
            else:
                self._train_step.skip()
            self._count(gradients)
            self._train_step.commit()
        self._train_metrics.add_time(began)
        self._time_budget.meter.add_step(time.perf_counter() - began, position)
        if self._time_budget.should_replan(counters):
            self._plan_time()

    def roll_back(self) -> Started:
        """Go back to the last checkpoint with half the learning rate and with the data that come next.

        Raises:
            TrainingError: If there is no checkpoint to go back to, or going back has not helped before.
        """
        counters, state = self.counters, self._last_state
        assert self._fault is not None
        if self._is_overflow:
            raise loss_spikes.overflows(counters)
        if state is None or counters.rollbacks >= loss_spikes.MAX_ROLLBACKS:
            rate = self._learning_rate(counters.step - 1)
            raise loss_spikes.cannot_go_on(self._fault, counters, self.options, rate)
        first = counters.step - counters.skipped_steps + 1
        note = (
            f"Steps {first} to {counters.step} were skipped, in the last the {self._fault}: back to step {state.step} "
            f"with half the learning rate (return {counters.rollbacks + 1} of {loss_spikes.MAX_ROLLBACKS})."
        )
        _log.warning(note)
        self._restore_weights(state)
        self.counters = state.counters.copy()
        self.counters.position = counters.position
        self.counters.total_skipped_steps = counters.total_skipped_steps
        self.counters.rollbacks = counters.rollbacks + 1
        self.counters.learning_rate_scale = counters.learning_rate_scale / 2
        self.total_steps = self._time_budget.steps_of(self.counters)
        self._fault = None
        return Started(state.step, self.total_steps, True, self._manifest, (note,))

    def record(self) -> Progress:
        """Return the metrics of this step, evaluating the model if it is due."""
        counters = self.counters
        metrics = self._training_metrics()
        samples: tuple[str, ...] = ()
        loss: float | None = None
        if self._triggers.evaluation_is_due(counters.step, self.total_steps):
            began = time.perf_counter()
            evaluation, samples = self._observe()
            seconds = time.perf_counter() - began
            self._time_budget.meter.add_evaluation(seconds, seconds)
            metrics |= evaluation
            loss = evaluation.get("eval/loss")
        record = Progress(counters.step, self.total_steps, metrics, samples)
        try:
            with hold_interrupts():
                if loss is not None:
                    self._note_evaluation(loss)
                counters.metrics.update(metrics)
                counters.window_losses.clear()
                counters.window_targets.clear()
                counters.is_recorded = True
        except KeyboardInterrupt:
            self.is_interrupted = True  # first the record: the counters say that it was made
        return record

    def checkpoint_reason(self) -> CheckpointReason | None:
        """Return why a checkpoint is due now, or None."""
        unsaved_s = time.monotonic() - self._checkpoint_time
        return self._triggers.checkpoint_reason(
            self.counters, self.total_steps, unsaved_s=unsaved_s, is_overflow=self._is_overflow
        )

    def checkpoint(self, reason: CheckpointReason) -> Checkpoint:
        """Return a copy of the state; that of the optimizer is completed while training goes on."""
        self.finish_copy()
        self._last_state = None  # one copy at a time
        self._note_time()
        model = capture_model(bare_model(self.adapter), self._buffers.copy)
        optimizer = self._train_step.capture(self._buffers.copy_later)
        state = TrainingState(
            model=model,
            optimizer=dataclasses.replace(optimizer, tensors=self._buffers.begin(optimizer.tensors)),
            scaler=self._train_step.scaler.state_dict(),
            random=capture_random(self.device),
            counters=self.counters.copy(),
            total_steps=self.total_steps,
            batches_per_epoch=len(self._batches),
            options=dataclasses.asdict(self.options),
            identity=dict(self.identity),
            precision=self.precision.name,
            device=self.device.type,
        )
        self._last_state = state
        self._checkpoint_time = time.monotonic()
        return Checkpoint(state.step, state.epoch, reason, dict(state.counters.metrics), state)

    def _plan_time(self) -> None:
        """Look at the clock: say how long the run will take, and plan its steps where hours are given."""
        if self._time_budget.meter.evaluation_s is None:
            began = time.perf_counter()
            expected = self._validator.estimate_seconds()
            self._time_budget.meter.add_evaluation(expected, time.perf_counter() - began)
        costs = self._time_budget.replan(self.counters)
        self.total_steps = self._time_budget.total_steps
        parameter_count = sum(parameter.numel() for parameter in bare_model(self.adapter).parameters())
        forecast = self._time_budget.forecast(self.counters, costs, parameter_count)
        # A training that tells its loss only at the end, such as a trial of a search, is not watched on its way.
        if forecast is not None and self.options.logging_steps < self.total_steps:
            _log.info(forecast)

    def _note_time(self) -> None:
        if self.options.max_hours is not None:
            self.counters.trained_s = self._time_budget.elapsed_s()

    def finish_copy(self) -> None:
        """Return when the newest copy of the state is complete: weights and optimizer are then free to change."""
        self._buffers.wait()

    def _check(self, state: TrainingState | None) -> list[str]:
        if state is None:
            return []
        found = check_resume(state, self.options, self.identity, self.total_steps, self.precision)
        return [*state.notes, *found]

    def _restore(self, state: TrainingState | None) -> RandomState:
        """Put ``state`` into model, optimizer and scaler; return the random state that training begins with."""
        self._processes.require_same_step(self.counters.step)
        if state is not None:
            self._restore_weights(state)
            return state.random
        self._processes.broadcast_weights(bare_model(self.adapter))
        with preserve_random(self.device):
            seed_random(self.options.seed)
            return capture_random(self.device)

    def _restore_weights(self, state: TrainingState) -> None:
        restore_model(bare_model(self.adapter), state.model)
        self._train_step.restore(state.optimizer)
        if state.scaler and self._train_step.scaler.is_enabled():
            self._train_step.scaler.load_state_dict(dict(state.scaler))

    def _count(self, gradients: StepStats) -> None:
        """Bring the counters up to date with a step."""
        counters = self.counters
        counters.step += 1
        counters.position += self._batches_per_step
        vars(counters).update(self._accumulator.decisions())
        is_new_trouble = self._fault is not None and not counters.skipped_steps
        loss_spikes.update_statistics(gradients, self._fault, counters)
        if is_new_trouble and not self._is_overflow:
            _log.warning("Step %d is skipped: the %s.", counters.step, self._fault)
        self._train_metrics.add(gradients, counters, is_skipped=self._fault is not None)
        counters.is_recorded = not self._triggers.record_is_due(counters.step, self.total_steps)

    @property
    def _is_overflow(self) -> bool:
        """Whether the last fault is one that a scaler cures."""
        return self._fault == loss_spikes.GRADIENT_NOT_FINITE and self._train_step.scaler.is_enabled()

    def _learning_rate(self, step: int) -> float:
        place = schedule_step(step, self.total_steps, self.counters.time_plan)
        return learning_rate_at(place, self.total_steps, self.options) * self.counters.learning_rate_scale

    def _training_metrics(self) -> dict[str, float]:
        metrics = self._train_metrics.metrics(self.counters)
        return {
            **metrics,
            **self._throughput.metrics(metrics["train/tokens_per_second"]),
            "train/learning_rate": self._learning_rate(self.counters.step - 1),
            "train/epoch": self.counters.step * self._batches_per_step / len(self._batches),
        }

    def _observe(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """Evaluate the averaged weights where there are some, else those that are trained."""
        if self._train_step.average is None:
            return self._validator.validate(self.counters.step)
        with self._train_step.average.in_place_of_weights(hold_interrupts):
            return self._validator.validate(self.counters.step)

    def _note_evaluation(self, loss: float) -> None:
        counters = self.counters
        if counters.best_loss is None or loss < counters.best_loss:
            counters.best_loss, counters.best_step, counters.evaluations_since_best = loss, counters.step, 0
        else:
            counters.evaluations_since_best += 1
        if self._triggers.is_stopped_early(counters):
            _log.info(
                "Stopping early at step %d: the validation loss was lowest at step %d.",
                counters.step,
                counters.best_step,
            )
