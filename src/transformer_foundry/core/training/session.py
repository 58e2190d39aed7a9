"""One call of ``fit``: what it was given, where it is, and the single acts of its story."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from transformer_foundry.core.errors import TrainingError
from transformer_foundry.core.training.evaluation import evaluate, evaluation_batches, training_batches
from transformer_foundry.core.training.generation import TextDecoder, sample_texts
from transformer_foundry.core.training.manifests import describe_run
from transformer_foundry.core.training.meter import Meter
from transformer_foundry.core.training.objectives import objective_for
from transformer_foundry.core.training.optimizers import capture_optimizer, restore_optimizer
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.precision import choose_precision
from transformer_foundry.core.training.randomness import (
    RandomState,
    capture_random,
    preserve_random,
    rewind_on_interrupt,
    seed_random,
)
from transformer_foundry.core.training.records import Checkpoint, CheckpointReason, Progress, Started
from transformer_foundry.core.training.resume import check_resume
from transformer_foundry.core.training.schedules import learning_rate_at
from transformer_foundry.core.training.state import (
    Counters,
    TrainingState,
    bare_model,
    capture_model,
    restore_model,
)
from transformer_foundry.core.training.update import Updater, hold_interrupts

if TYPE_CHECKING:
    from transformer_foundry.core.data.splits import TokenSplits

__all__ = ["Session"]

_log = logging.getLogger(__name__)

MAX_SKIPPED_STEPS = 40
"""Steps in a row that a scaler may skip. It begins at 2^16, doubles every 2000 steps and halves with each step that it
skips: even a scale grown to 2^24 has shrunk to 2^-16 by then, where only gradients beyond 4e9 leave the range of half
precision (65504). What is still not finite is so in the model."""


class Session:
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
        _require_fit(adapter, splits)
        self.adapter, self.splits, self.options, self.tokenizer = adapter, splits, options, tokenizer
        self.precision = choose_precision(options.device, options.precision)
        self.device = self.precision.device
        self.identity = {"data": splits.fingerprint, **(identity or {})}
        self._batches = training_batches(splits, batch_size=options.per_device_train_batch_size, seed=options.seed)
        self._eval_batch_size = options.per_device_eval_batch_size or options.per_device_train_batch_size
        self.total_steps = self._plan_steps()
        self._resumed = resume_from is not None
        self._notes = self._check(resume_from)
        self._updater = Updater(adapter, objective_for(splits.task), options, self.precision)
        self.counters = Counters() if resume_from is None else resume_from.counters.copy()
        self.random_at_start = self._restore(resume_from)
        self._manifest = describe_run(
            options, self.identity, step=self.counters.step, total_steps=self.total_steps, extra=manifest
        )
        self._meter = Meter(self.counters)
        self._checkpoint_time = time.monotonic()
        self.is_interrupted = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: all steps are taken, or the validation loss no longer falls."""
        return self.counters.is_recorded and (self.counters.step >= self.total_steps or self._is_stopped_early)

    @property
    def is_consistent(self) -> bool:
        """Whether weights and counters are of one step: not so after an interrupt in the middle of an update."""
        return not self._updater.is_torn

    def started(self) -> Started:
        """Return the first record."""
        return Started(
            self.counters.step, self.total_steps, self._resumed, self._manifest, tuple(self._notes + self._remarks())
        )

    def step(self) -> None:
        """Take one optimizer step."""
        counters, accumulation = self.counters, self.options.gradient_accumulation_steps
        began = time.perf_counter()
        micro_batches = [self._batches.batch(counters.position + index) for index in range(accumulation)]
        learning_rate = learning_rate_at(counters.step, self.total_steps, self.options)
        with hold_interrupts():
            with rewind_on_interrupt(self.device):
                update = self._updater.update(micro_batches, learning_rate)
            self._meter.add(update)
            counters.position += accumulation
            counters.step += 1
            counters.is_recorded = not self._is_record_due()
            self._updater.settle()
        self._meter.add_time(began)

    def record(self) -> Progress:
        """Return the metrics of this step, evaluating the model if it is due.

        Raises:
            TrainingError: If the loss of a step since the last record is not finite.
        """
        counters = self.counters
        metrics = self._training_metrics()
        samples: tuple[str, ...] = ()
        loss: float | None = None
        if self._is_evaluation_due():
            evaluation, samples = self._evaluate()
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
        counters, options = self.counters, self.options
        if self.is_finished:
            return "end"
        if options.save_epochs and self._crossed_epoch():
            return "epoch"
        if options.save_steps is not None and counters.step % options.save_steps == 0:
            return "steps"
        if counters.best_step == counters.step:
            return "best"
        minutes = (time.monotonic() - self._checkpoint_time) / 60
        return "minutes" if options.save_minutes is not None and minutes >= options.save_minutes else None

    def checkpoint(self, reason: CheckpointReason) -> Checkpoint:
        """Return a copy of the state.

        Raises:
            TrainingError: If the loss of a step since the last record is not finite: such weights are not kept.
        """
        self._fetch_losses()
        model = bare_model(self.adapter)
        state = TrainingState(
            model=capture_model(model),
            optimizer=capture_optimizer(self._updater.optimizer, model),
            scaler=self._updater.scaler.state_dict(),
            random=capture_random(self.device),
            counters=self.counters.copy(),
            total_steps=self.total_steps,
            batches_per_epoch=len(self._batches),
            options=dataclasses.asdict(self.options),
            identity=dict(self.identity),
            precision=self.precision.name,
            device=self.device.type,
        )
        self._checkpoint_time = time.monotonic()
        return Checkpoint(state.step, state.epoch, reason, dict(state.counters.metrics), state)

    def _plan_steps(self) -> int:
        self._steps_per_epoch = len(self._batches) / self.options.gradient_accumulation_steps
        if self.options.num_train_epochs is None:
            return self.options.max_steps
        return max(1, math.ceil(self.options.num_train_epochs * self._steps_per_epoch))

    def _check(self, state: TrainingState | None) -> list[str]:
        if state is None:
            return []
        found = check_resume(state, self.options, self.identity, self.total_steps, self.precision)
        return [*state.notes, *found]

    def _restore(self, state: TrainingState | None) -> RandomState:
        """Put ``state`` into model, optimizer and scaler; return the random state that training begins with."""
        if state is None:
            with preserve_random(self.device):
                seed_random(self.options.seed)
                return capture_random(self.device)
        model = bare_model(self.adapter)
        restore_model(model, state.model)
        restore_optimizer(self._updater.optimizer, model, state.optimizer)
        if state.scaler and self._updater.scaler.is_enabled():
            self._updater.scaler.load_state_dict(dict(state.scaler))
        return state.random

    def _remarks(self) -> list[str]:
        """What the user should know before the first step."""
        remarks = []
        if not len(self.splits.validation):
            remarks.append(
                "The validation split is empty: there is no evaluation, no early stopping, no best checkpoint."
            )
        if self.is_finished and self._is_stopped_early:
            remarks.append(
                f"Nothing to train: the run stopped early at step {self.counters.step}; "
                "raise training.early_stopping_patience to go on."
            )
        elif self.is_finished:
            remarks.append(
                f"Nothing to train: step {self.counters.step} of {self.total_steps} is reached; "
                "raise training.max_steps to go on."
            )
        return remarks

    @property
    def _is_stopped_early(self) -> bool:
        patience = self.options.early_stopping_patience
        return patience is not None and self.counters.evaluations_since_best >= patience

    def _is_evaluation_due(self) -> bool:
        step, every = self.counters.step, self.options.eval_steps
        return len(self.splits.validation) > 0 and (
            step >= self.total_steps or (every is not None and step % every == 0)
        )

    def _is_record_due(self) -> bool:
        step = self.counters.step
        is_logged = step == 1 or step % self.options.logging_steps == 0 or step >= self.total_steps
        return is_logged or self._is_evaluation_due()

    def _crossed_epoch(self) -> bool:
        position, length = self.counters.position, len(self._batches)
        return position // length > (position - self.options.gradient_accumulation_steps) // length

    def _training_metrics(self) -> dict[str, float]:
        began = time.perf_counter()
        self._fetch_losses()
        self._meter.add_time(began)
        return {
            **self._meter.metrics(),
            "train/learning_rate": learning_rate_at(self.counters.step - 1, self.total_steps, self.options),
            "train/epoch": self.counters.step / self._steps_per_epoch,
        }

    def _fetch_losses(self) -> None:
        found = self._meter.fetch(may_overflow=self._updater.scaler.is_enabled())
        if found is None:
            self._require_updates()
            return
        step, what = found
        learning_rate = learning_rate_at(step - 1, self.total_steps, self.options)
        raise TrainingError(
            f"The {what} of step {step} is not finite (learning rate {learning_rate:.3g}).",
            "A finite number was expected; the checkpoints of earlier steps are intact.",
            f"Lower training.learning_rate, for example to {self.options.learning_rate / 3:.1g}, in another run "
            "(run.name=NEW); if step 1 fails too, look for a division by zero or a log of zero in model.py.",
        )

    def _require_updates(self) -> None:
        """Stop when the scaler skips step after step, or skipped all: the loss looks well, but nothing is learned."""
        step, skipped = self.counters.step, self.counters.skipped_steps
        if skipped < min(MAX_SKIPPED_STEPS, self.total_steps):
            return
        raise TrainingError(
            f"The gradients of the last {skipped} steps ({step - skipped + 1} to {step}) are not finite in half "
            "precision: all these steps were skipped and no weight has changed in them.",
            "The loss scaler was expected to find a scale at which gradients are finite within "
            f"{MAX_SKIPPED_STEPS} steps.",
            "Train in another run with training.precision=fp32 (run.name=NEW); if that fails too, look in model.py for "
            "what has no derivative, such as a square root of zero or a row of a softmax that is masked as a whole.",
        )

    def _evaluate(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return metrics and samples; training's random streams go on as if there had been no evaluation."""
        began = time.perf_counter()
        with preserve_random(self.device):
            found = evaluate(
                self.adapter,
                self.splits,
                batch_size=self._eval_batch_size,
                max_batches=self.options.eval_batches,
                precision=self.precision,
            )
            samples = self._sample()
        metrics = {f"eval/{name}": value for name, value in found.items() if name != "targets"}
        return {**metrics, "eval/seconds": time.perf_counter() - began}, samples

    def _sample(self) -> tuple[str, ...]:
        batches = evaluation_batches(self.splits, batch_size=max(1, self.options.num_samples))
        if self.tokenizer is None or batches is None:
            return ()
        return sample_texts(
            self.adapter,
            self.tokenizer,
            self.splits.task,
            batches.batch(0),
            self.options,
            seed=self.options.seed + self.counters.step,
            max_length=self.splits.max_length,
            label_names=self.splits.label_names,
        )

    def _note_evaluation(self, loss: float) -> None:
        counters = self.counters
        if counters.best_loss is None or loss < counters.best_loss:
            counters.best_loss, counters.best_step, counters.evaluations_since_best = loss, counters.step, 0
        else:
            counters.evaluations_since_best += 1
        if self._is_stopped_early:
            _log.info(
                "Stopping early at step %d: the validation loss was lowest at step %d.",
                counters.step,
                counters.best_step,
            )


def _require_fit(adapter: nn.Module, splits: TokenSplits) -> None:
    """Refuse data that were prepared for another kind of model; a module without a contract is taken at its word."""
    contract = getattr(adapter, "contract", None)
    if contract is None:
        return
    if contract.task != splits.task:
        raise TrainingError(
            f"The data were prepared for {splits.task}, but the task of the model is {contract.task}.",
            "Model and data must have the same task.",
            "Run the data_engineering pipeline again, or set model.task to the task of the data.",
        )
    if splits.vocab_size > contract.vocab_size:
        raise TrainingError(
            f"The data have {splits.vocab_size} token ids, but the model's vocabulary has {contract.vocab_size}.",
            "The tokenizer must not have more ids than the model has embeddings.",
            "Run the data_engineering pipeline again with this model.",
        )
