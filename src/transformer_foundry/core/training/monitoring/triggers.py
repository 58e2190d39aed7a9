"""Triggers: whether an evaluation, a record, a checkpoint or the end is due after a step."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.training.checkpointing.state import LoopState
from transformer_foundry.core.training.events import CheckpointReason
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["Triggers"]


@dataclass(frozen=True)
class Triggers:
    """Decides what is due after a step.

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

    def is_finished(self, loop: LoopState, total_steps: int) -> bool:
        """Return whether nothing is left to do: all steps are taken, or the validation loss no longer falls."""
        return loop.is_recorded and (loop.step >= total_steps or self.is_stopped_early(loop))

    def is_stopped_early(self, loop: LoopState) -> bool:
        """Return whether the validation loss has not fallen for as many evaluations as patience allows."""
        patience = self.options.early_stopping_patience
        return patience is not None and loop.evaluations_since_best >= patience

    def evaluation_is_due(self, step: int, total_steps: int) -> bool:
        """Return whether the model is evaluated after ``step``."""
        every = self.options.eval_steps
        return self.has_validation and (step >= total_steps or (every is not None and step % every == 0))

    def record_is_due(self, step: int, total_steps: int) -> bool:
        """Return whether metrics are recorded after ``step``."""
        is_logged = step == 1 or step % self.options.logging_steps == 0 or step >= total_steps
        return is_logged or self.evaluation_is_due(step, total_steps)

    def checkpoint_reason(
        self, loop: LoopState, total_steps: int, *, unsaved_s: float, is_skipping: bool
    ) -> CheckpointReason | None:
        """Return why a checkpoint is due now, or None; none is made while steps are skipped.

        Args:
            loop: The state after the step.
            total_steps: Steps of the whole run.
            unsaved_s: Seconds since the last checkpoint.
            is_skipping: Whether the step was skipped, except by the gradient scaler.
        """
        options = self.options
        if self.is_finished(loop, total_steps):
            return "end"
        if is_skipping:
            return None
        if options.save_epochs and self._crossed_epoch(loop.position):
            return "epoch"
        if options.save_steps is not None and loop.step % options.save_steps == 0:
            return "steps"
        if loop.best_step == loop.step:
            return "best"
        return "minutes" if options.save_minutes is not None and unsaved_s >= 60 * options.save_minutes else None

    def _crossed_epoch(self, position: int) -> bool:
        length = self.batches_per_epoch
        return position // length > (position - self.batches_per_step) // length
