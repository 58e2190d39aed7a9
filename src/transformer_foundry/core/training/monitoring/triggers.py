"""What is due after a step: an evaluation, a record, a checkpoint, the end."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.training.checkpointing.state import Counters
from transformer_foundry.core.training.events import CheckpointReason
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["Triggers"]


@dataclass(frozen=True)
class Triggers:
    """Tells what is due by options and counters.

    Attributes:
        options: Intervals and patience.
        has_validation: Whether there is something to evaluate on.
        batches_per_epoch: Batches of one pass over the data.
        batches_per_step: Batches of an optimizer step.
    """

    options: TrainingOptions
    has_validation: bool
    batches_per_epoch: int
    batches_per_step: int

    def is_finished(self, counters: Counters, total_steps: int) -> bool:
        """Return whether nothing is left to do: all steps are taken, or the validation loss no longer falls."""
        return counters.is_recorded and (counters.step >= total_steps or self.is_stopped_early(counters))

    def is_stopped_early(self, counters: Counters) -> bool:
        """Return whether the validation loss has not fallen for as many evaluations as patience allows."""
        patience = self.options.early_stopping_patience
        return patience is not None and counters.evaluations_since_best >= patience

    def evaluation_is_due(self, step: int, total_steps: int) -> bool:
        """Return whether the model is evaluated after ``step``."""
        every = self.options.eval_steps
        return self.has_validation and (step >= total_steps or (every is not None and step % every == 0))

    def record_is_due(self, step: int, total_steps: int) -> bool:
        """Return whether metrics are recorded after ``step``."""
        is_logged = step == 1 or step % self.options.logging_steps == 0 or step >= total_steps
        return is_logged or self.evaluation_is_due(step, total_steps)

    def checkpoint_reason(
        self, counters: Counters, total_steps: int, *, unsaved_s: float, is_overflow: bool
    ) -> CheckpointReason | None:
        """Return why a checkpoint is due now, or None; none is made while spikes are being skipped.

        Args:
            counters: Those after the step.
            total_steps: Steps of the whole run.
            unsaved_s: Seconds since the last checkpoint.
            is_overflow: Whether the step was skipped because of an overflow, which a scaler cures.
        """
        options = self.options
        if self.is_finished(counters, total_steps):
            return "end"
        if counters.skipped_steps and not is_overflow:
            return None
        if options.save_epochs and self._crossed_epoch(counters.position):
            return "epoch"
        if options.save_steps is not None and counters.step % options.save_steps == 0:
            return "steps"
        if counters.best_step == counters.step:
            return "best"
        return "minutes" if options.save_minutes is not None and unsaved_s >= 60 * options.save_minutes else None

    def _crossed_epoch(self, position: int) -> bool:
        length = self.batches_per_epoch
        return position // length > (position - self.batches_per_step) // length
