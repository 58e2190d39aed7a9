"""The gradient of a step, computed within the memory there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.data.dataloading.batches import BatchSource, move_batch, split_rows
from transformer_foundry.core.system.distributed import ProcessGroup
from transformer_foundry.core.system.memory import return_freed_memory
from transformer_foundry.core.system.random_state import rewind_on_failure, seed_random
from transformer_foundry.core.training.checkpointing.state import Counters
from transformer_foundry.core.training.compile import PAYS_OFF_S, compile_model, time_of
from transformer_foundry.core.training.memory.batch_size import (
    MemoryPlan,
    MemoryWishes,
    fit_memory,
    halve,
    is_out_of_memory,
    memory_budget,
)
from transformer_foundry.core.training.memory.chunked_cross_entropy import CHUNK_BYTES
from transformer_foundry.core.training.memory.dummy_batch import BatchShape
from transformer_foundry.core.training.memory.forecast import Workload, optimizer_bytes, update_bytes
from transformer_foundry.core.training.memory.savings import MemorySavings, prove_savings
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.train_step import StepStats, TrainStep

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["GradientAccumulation", "PlannedMemory", "plan_memory"]

_log = logging.getLogger(__name__)


class GradientAccumulation:
    """Takes this process's share of each step through the model, in micro-batches that fit.

    Args:
        train_step: The model and its optimizers; gets the savings, and the compiled model where there is one.
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
        train_step: TrainStep,
        batches: BatchSource,
        splits: TokenSplits,
        options: TrainingOptions,
        processes: ProcessGroup,
        counters: Counters,
        total_steps: int,
        left_s: float | None = None,
    ) -> None:
        self._train_step, self._batches, self._options, self._processes = train_step, batches, options, processes
        self.batches_per_step = options.gradient_accumulation_steps * processes.world_size
        rows = options.rows_per_batch(processes.world_size)
        self._memory: PlannedMemory = plan_memory(train_step, splits, options, rows, counters.memory_plan)
        self._train_step.savings = self._memory.savings
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

    def accumulate(self, position: int) -> StepStats:
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

    def _try(self, position: int) -> StepStats | None:
        """Return the gradient, or None if memory ran out."""
        shares = [self._batches.batch(position + index) for index in self._processes.rank_slice(self.batches_per_step)]
        micro_batches = [piece for batch in shares for piece in split_rows(batch, self._memory.plan.rows)]
        self._seed(position)
        try:
            with rewind_on_failure(self._train_step.precision.device):
                return self._train_step.accumulate(micro_batches)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            if self._processes.world_size > 1:
                raise TrainingError(
                    f"Process {self._processes.rank} of {self._processes.world_size} has no memory left.",
                    "Processes cannot agree on smaller micro-batches in the middle of a step.",
                    "Set training.memory_budget_gb below the memory of the smallest device.",
                ) from err
            return None

    def _seed(self, position: int) -> None:
        """Give each of several processes dropout of its own, which a resumed run can draw again."""
        if self._processes.world_size > 1:
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
        train_step, batch = self._train_step, split_rows(self._batches.batch(0), self._memory.plan.rows)[0]
        if self._options.compile == "auto" and self._is_compiled is None:
            if left_s is None:
                passes = batches_left * self._memory.plan.accumulation
                left_s = time_of(train_step.adapter, train_step.objective, batch, train_step.precision, passes)
            self._is_compiled = left_s >= PAYS_OFF_S
            if not self._is_compiled:
                return ["Not compiled: the run is shorter than ten times what torch.compile takes."]
        compiled, note = compile_model(train_step.adapter, train_step.objective, batch, train_step.precision)
        self._is_compiled = compiled is not None
        if compiled is not None:
            train_step.forward_model = compiled
        return [note]


_PROOF_ROWS, _PROOF_LENGTH = 2, 12


@dataclass(frozen=True)
class PlannedMemory:
    """A plan, the savings that it uses, and the limit it was made for: None if none was set."""

    plan: MemoryPlan
    savings: MemorySavings
    budget_bytes: int | None

    def values(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the decisions, not the figures that led to them."""
        decisions = ("rows", "chunked_loss", "activation_checkpointing")
        return {**{name: getattr(self.plan, name) for name in decisions}, "budget_bytes": self.budget_bytes}

    def with_plan(self, plan: MemoryPlan) -> PlannedMemory:
        """Return the same with another division of the rows."""
        return replace(self, plan=plan)


def plan_memory(
    train_step: TrainStep, splits: TokenSplits, options: TrainingOptions, rows: int, saved: Mapping[str, Any] | None
) -> PlannedMemory:
    """Return the plan of a run and the savings that it uses.

    The batch as it is comes first; if it does not fit the budget, or its size is left to us, smaller micro-batches and
    savings are weighed. A run that goes on follows the plan that it began with, as long as its limit is the same: where
    that is what the machine has free, as long as the plan fits.

    Args:
        train_step: Model, objective and optimizers.
        splits: The data.
        options: Budget and wishes.
        rows: Rows of a batch of this process; how they are divided changes no result.
        saved: ``PlannedMemory.values`` of an earlier session.

    Raises:
        TrainingError: If not even one row fits the budget.
    """
    device = train_step.precision.device
    budget, origin = memory_budget(
        device, options.memory_budget_gb, is_wanted=options.per_device_train_batch_size == "auto"
    )
    limit = None if options.memory_budget_gb is None and device.type == "cpu" else budget
    wishes = MemoryWishes(
        rows,
        chunked_loss=options.chunked_loss,
        activation_checkpointing=options.activation_checkpointing,
        budget_bytes=budget,
    )
    work = _workload(train_step, splits, options, has_budget=budget is not None)
    kept = _keep_to(saved, wishes, limit)
    plan, proven = _make_plan(train_step, work, kept)
    if not plan.fits and kept != wishes:
        plan, proven = _make_plan(train_step, work, wishes)
    if not plan.fits:
        raise _does_not_fit(plan, origin)
    used = proven.limited_to(chunked_loss=plan.chunked_loss, activation_checkpointing=plan.activation_checkpointing)
    return PlannedMemory(plan, used, limit)


def _keep_to(saved: Mapping[str, Any] | None, wishes: MemoryWishes, limit: int | None) -> MemoryWishes:
    """Return ``wishes`` with what they leave open as it was decided before, if that was for the same limit."""
    if saved is None or saved["budget_bytes"] != limit or saved["rows"] > wishes.total_rows:
        return wishes
    savings = [name for name in ("chunked_loss", "activation_checkpointing") if getattr(wishes, name) == "auto"]
    decided: dict[str, Any] = {name: "on" if saved[name] else "off" for name in savings}
    return replace(wishes, rows=saved["rows"], **decided)


def _make_plan(train_step: TrainStep, work: Workload, wishes: MemoryWishes) -> tuple[MemoryPlan, MemorySavings]:
    rows = wishes.rows or wishes.total_rows
    # On a CPU large logits are also faster in chunks (0.80 to 0.95 of the time). On a GPU they are slower (1.26 of the
    # time at a vocabulary of 50,257 on an H200), and torch.compile cannot follow them.
    is_large = work.precision.device.type == "cpu" and work.shape.logits_bytes(rows) > CHUNK_BYTES
    chunks = wishes.chunked_loss == "on" or (wishes.chunked_loss == "auto" and is_large)
    checkpoints = wishes.activation_checkpointing == "on"
    proven = _prove(train_step, work.shape, chunks, checkpoints)
    simplest = replace(
        wishes,
        rows=rows,
        timing_s=0.0,
        chunked_loss="on" if chunks else "off",
        activation_checkpointing="on" if checkpoints else "off",
    )
    plan = fit_memory(work, simplest, proven)
    if plan.fits:
        return plan, proven
    proven = _prove(train_step, work.shape, wishes.chunked_loss != "off", wishes.activation_checkpointing != "off")
    return fit_memory(work, wishes, proven), proven


def _prove(
    train_step: TrainStep, shape: BatchShape, chunked_loss: bool, activation_checkpointing: bool
) -> MemorySavings:
    if not (chunked_loss or activation_checkpointing):
        return MemorySavings()
    batch = move_batch(shape.batch(_PROOF_ROWS, _PROOF_LENGTH), train_step.precision.device)
    return prove_savings(
        train_step.adapter,
        train_step.objective,
        batch,
        chunked_loss=chunked_loss,
        activation_checkpointing=activation_checkpointing,
        label_smoothing=train_step.label_smoothing,
    )


def _shape(train_step: TrainStep, splits: TokenSplits) -> BatchShape:
    contract = getattr(train_step.adapter, "contract", None)
    vocab_size = contract.vocab_size if contract is not None else splits.vocab_size
    return BatchShape(splits.task, vocab_size, splits.max_length, num_labels=len(splits.label_names or "ab"))


def _workload(train_step: TrainStep, splits: TokenSplits, options: TrainingOptions, *, has_budget: bool) -> Workload:
    has_validation = len(splits.validation) > 0
    return Workload(
        train_step.adapter,
        train_step.objective,
        _shape(train_step, splits),
        train_step.precision,
        optimizer_bytes(train_step.adapter, train_step.groups, has_average=train_step.average is not None),
        update_bytes(train_step.groups),
        batches_per_step=options.gradient_accumulation_steps,
        eval_rows=options.rows_per_evaluation_batch if has_validation else None,
        sample_rows=options.num_samples if has_validation else 0,
        label_smoothing=train_step.label_smoothing,
        returns_freed_memory=has_budget and return_freed_memory(),
    )


def _does_not_fit(plan: MemoryPlan, origin: str) -> TrainingError:
    return TrainingError(
        " ".join(plan.lines),
        f"A forecast within the budget was expected. {origin}",
        "Shorten data.max_length, lower training.per_device_eval_batch_size, allow training.chunked_loss and "
        "training.activation_checkpointing, or raise training.memory_budget_gb.",
    )
