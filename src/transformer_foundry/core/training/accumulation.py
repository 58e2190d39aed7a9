"""The gradient of a step, computed within the memory there is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.training.compilation import PAYS_OFF_S, compile_model, time_of
from transformer_foundry.core.training.distributed import Processes
from transformer_foundry.core.training.evaluation import BatchSource
from transformer_foundry.core.training.memory.fitting import halve, is_out_of_memory
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.planning import PlannedMemory, plan_memory
from transformer_foundry.core.training.randomness import rewind_on_failure, seed_random
from transformer_foundry.core.training.state import Counters
from transformer_foundry.core.training.update import Gradients, Updater, split_rows

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["Accumulator"]

_log = logging.getLogger(__name__)


class Accumulator:
    """Takes this process's share of each step through the model, in micro-batches that fit.

    Args:
        updater: The model and its optimizers; gets the savings, and the compiled model where there is one.
        batches: The training data.
        splits: Where they come from.
        options: Batch sizes, memory, compilation.
        processes: Those that share each step.
        counters: What an earlier session decided.
        total_steps: Of the whole run.
        left_s: Seconds that the run may still take; None where its steps are known instead.

    Attributes:
        notes: What the user should know before the first step.

    Raises:
        TrainingError: If training does not fit into the memory.
    """

    def __init__(
        self,
        updater: Updater,
        batches: BatchSource,
        splits: TokenSplits,
        options: TrainingOptions,
        processes: Processes,
        counters: Counters,
        total_steps: int,
        left_s: float | None = None,
    ) -> None:
        self._updater, self._batches, self._options, self._processes = updater, batches, options, processes
        self.batches_per_step = options.gradient_accumulation_steps * processes.count
        rows = options.rows_per_batch(processes.count)
        self._memory: PlannedMemory = plan_memory(updater, splits, options, rows, counters.memory_plan)
        self._updater.savings = self._memory.savings
        self._is_compiled = counters.is_compiled
        batches_left = (total_steps - counters.step) * self.batches_per_step
        self.notes = [*self._memory.plan.lines, *self._compile(batches_left, left_s)]

    @property
    def savings(self) -> MemorySavings:
        """What saves memory in each pass, of training and of evaluations."""
        return self._memory.savings

    def decisions(self) -> dict[str, Any]:
        """Return what later sessions of the run keep to, as values of ``Counters``."""
        return {"memory_plan": self._memory.values(), "is_compiled": self._is_compiled}

    def accumulate(self, position: int) -> Gradients:
        """Return the gradient of the step whose first batch is at ``position``.

        When memory runs out the micro-batches are halved, and the step is computed again.

        Raises:
            TrainingError: If micro-batches of one row do not fit, or one of several processes has no memory left.
        """
        while True:
            gradients = self._try(position)
            if gradients is not None:
                return gradients
            # The frames that held the tensors of the failed pass are gone only now.
            self._memory = self._memory.with_plan(halve(self._memory.plan))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _log.warning(self._memory.plan.lines[-1])

    def _try(self, position: int) -> Gradients | None:
        """Return the gradient, or None if memory ran out."""
        shares = [self._batches.batch(position + index) for index in self._processes.share(self.batches_per_step)]
        micro_batches = [piece for batch in shares for piece in split_rows(batch, self._memory.plan.rows)]
        self._seed(position)
        try:
            with rewind_on_failure(self._updater.precision.device):
                return self._updater.accumulate(micro_batches)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            if self._processes.count > 1:
                raise TrainingError(
                    f"Process {self._processes.rank} of {self._processes.count} has no memory left.",
                    "Processes cannot agree on smaller micro-batches in the middle of a step.",
                    "Set training.memory_budget_gb below the memory of the smallest device.",
                ) from err
            return None

    def _seed(self, position: int) -> None:
        """Give each of several processes dropout of its own, which a resumed run can draw again."""
        if self._processes.count > 1:
            words = np.random.SeedSequence([self._options.seed, position, self._processes.rank]).generate_state(1)
            seed_random(int(words[0]))

    def _compile(self, batches_left: int, left_s: float | None) -> list[str]:
        """Translate the model if that is wanted; what was decided at the start of a run holds for all its sessions."""
        if self._options.compile == "off" or self._is_compiled is False:
            return []
        if self.savings.chunked_loss is not None or self.savings.activation_checkpointing is not None:
            self._is_compiled = False
            return [
                "Not compiled: what saves memory changes the model in each pass, which torch.compile cannot follow."
            ]
        updater, batch = self._updater, split_rows(self._batches.batch(0), self._memory.plan.rows)[0]
        if self._options.compile == "auto" and self._is_compiled is None:
            if left_s is None:
                passes = batches_left * self._memory.plan.accumulation
                left_s = time_of(updater.adapter, updater.objective, batch, updater.precision, passes)
            self._is_compiled = left_s >= PAYS_OFF_S
            if not self._is_compiled:
                return ["Not compiled: the run is shorter than ten times what torch.compile takes."]
        compiled, note = compile_model(updater.adapter, updater.objective, batch, updater.precision)
        self._is_compiled = compiled is not None
        if compiled is not None:
            updater.forward_model = compiled
        return [note]
