"""The memory plan of a run: what an earlier session decided, what fits the budget, and the savings that it uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.data.dataloading.batches import move_batch
from transformer_foundry.core.models.losses import task_loss_for
from transformer_foundry.core.system.memory import return_freed_memory
from transformer_foundry.core.training.checkpointing.state import MemoryDecision
from transformer_foundry.core.training.memory.batch_size import MemoryConstraints, MemoryPlan, fit_memory, memory_budget
from transformer_foundry.core.training.memory.chunked_cross_entropy import CHUNK_BYTES
from transformer_foundry.core.training.memory.dummy_batch import BatchShape
from transformer_foundry.core.training.memory.forecast import TrainingWorkload, optimizer_bytes, update_bytes
from transformer_foundry.core.training.memory.savings import MemorySavings, verify_savings

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.system.precision import Precision
    from transformer_foundry.core.training.options import TrainingOptions
    from transformer_foundry.core.training.train_step import TrainStep

__all__ = ["PlannedMemory", "evaluation_savings", "plan_memory", "plan_run_memory"]

_VERIFIED_ROWS, _VERIFIED_LENGTH = 2, 12


@dataclass(frozen=True)
class PlannedMemory:
    """A memory plan, the savings that it uses, and the limit that it was made for (None if none was set)."""

    plan: MemoryPlan
    savings: MemorySavings
    limit_bytes: int | None

    def decision(self) -> MemoryDecision:
        """Return what a checkpoint keeps: the decisions, not the figures that led to them."""
        plan = self.plan
        return MemoryDecision(plan.rows, plan.chunked_loss, plan.activation_checkpointing, self.limit_bytes)


def plan_memory(
    work: TrainingWorkload,
    constraints: MemoryConstraints,
    *,
    limit_bytes: int | None,
    budget_origin: str,
    saved: MemoryDecision | None = None,
) -> PlannedMemory:
    """Return the memory plan of a run and the savings that it uses.

    The whole batch is tried first; if it does not fit the budget, or its size is automatic, smaller micro-batches and
    savings are weighed. A resumed run keeps the plan that it began with as long as its limit is the same; where the
    limit is what the machine has free, as long as the plan fits.

    Args:
        work: What the run does with the model.
        constraints: What the user asked for; how the rows are divided changes no result.
        limit_bytes: The limit that the plan is made for; None where it is only what a CPU machine has free.
        budget_origin: A sentence about the source of the budget, for the error.
        saved: The decision of an earlier session.

    Raises:
        TrainingError: If not even one row fits the budget.
    """
    kept = _keep_saved(saved, constraints, limit_bytes)
    plan, verified = _make_plan(work, kept)
    if not plan.fits and kept != constraints:
        plan, verified = _make_plan(work, constraints)
    if not plan.fits:
        raise _does_not_fit(plan, budget_origin)
    used = verified.limited_to(chunked_loss=plan.chunked_loss, activation_checkpointing=plan.activation_checkpointing)
    return PlannedMemory(plan, used, limit_bytes)


def _keep_saved(
    saved: MemoryDecision | None, constraints: MemoryConstraints, limit_bytes: int | None
) -> MemoryConstraints:
    """Return ``constraints`` with what they leave open as it was decided before, if that was for the same limit."""
    if saved is None or saved.budget_bytes != limit_bytes or saved.rows > constraints.total_rows:
        return constraints
    savings = [name for name in ("chunked_loss", "activation_checkpointing") if getattr(constraints, name) == "auto"]
    decided: dict[str, Any] = {name: "on" if getattr(saved, name) else "off" for name in savings}
    return replace(constraints, rows=saved.rows, **decided)


def _make_plan(work: TrainingWorkload, constraints: MemoryConstraints) -> tuple[MemoryPlan, MemorySavings]:
    rows = constraints.rows or constraints.total_rows
    # On a CPU large logits are also faster in chunks (0.80 to 0.95 of the time). On a GPU they are slower (1.26 of the
    # time at a vocabulary of 50,257 on an H200), and torch.compile cannot follow them.
    is_large = work.precision.device.type == "cpu" and work.shape.logits_bytes(rows) > CHUNK_BYTES
    chunks = constraints.chunked_loss == "on" or (constraints.chunked_loss == "auto" and is_large)
    checkpoints = constraints.activation_checkpointing == "on"
    verified = _verify(work, chunks, checkpoints)
    simplest = replace(
        constraints,
        rows=rows,
        timing_s=0.0,
        chunked_loss="on" if chunks else "off",
        activation_checkpointing="on" if checkpoints else "off",
    )
    plan = fit_memory(work, simplest, verified)
    if plan.fits:
        return plan, verified
    verified = _verify(work, constraints.chunked_loss != "off", constraints.activation_checkpointing != "off")
    return fit_memory(work, constraints, verified), verified


def _verify(work: TrainingWorkload, chunked_loss: bool, activation_checkpointing: bool) -> MemorySavings:
    if not (chunked_loss or activation_checkpointing):
        return MemorySavings()
    batch = move_batch(work.shape.batch(_VERIFIED_ROWS, _VERIFIED_LENGTH), work.precision.device)
    return verify_savings(
        work.adapter,
        work.objective,
        batch,
        chunked_loss=chunked_loss,
        activation_checkpointing=activation_checkpointing,
        label_smoothing=work.label_smoothing,
    )


def _does_not_fit(plan: MemoryPlan, origin: str) -> TrainingError:
    return TrainingError(
        " ".join(plan.lines),
        f"Expected a forecast within the budget. {origin}",
        "Shorten data.max_length, lower training.per_device_eval_batch_size, allow training.chunked_loss and "
        "training.activation_checkpointing, or raise training.memory_budget_gb.",
    )


def plan_run_memory(
    train_step: TrainStep,
    splits: TokenSplits,
    options: TrainingOptions,
    rows: int,
    batches: int,
    saved: MemoryDecision | None,
) -> PlannedMemory:
    """Plan the memory of a run from its parts.

    Args:
        train_step: On its device.
        splits: The data; their longest row is planned for.
        options: Batch sizes, budget and wanted savings.
        rows: Most rows of a batch that one process takes.
        batches: Batches of a step of one process.
        saved: What the first session of the run decided.

    Raises:
        TrainingError: If training does not fit the memory.
    """
    device = train_step.precision.device
    has_validation, is_automatic = len(splits.validation) > 0, options.per_device_train_batch_size == "auto"
    budget_bytes, origin = memory_budget(device, options.memory_budget_gb, is_wanted=is_automatic)
    work = TrainingWorkload(
        train_step.adapter,
        train_step.objective,
        _shape(train_step.adapter, splits),
        train_step.precision,
        optimizer_bytes(train_step.adapter, train_step.groups, has_average=train_step.average is not None),
        update_bytes(train_step.groups),
        batches_per_step=batches,
        eval_rows=options.rows_per_evaluation_batch if has_validation else None,
        sample_rows=options.num_samples if has_validation else 0,
        label_smoothing=train_step.label_smoothing,
        returns_freed_memory=budget_bytes is not None and return_freed_memory(),
    )
    constraints = MemoryConstraints(
        rows,
        chunked_loss=options.chunked_loss,
        activation_checkpointing=options.activation_checkpointing,
        budget_bytes=budget_bytes,
    )
    limit_bytes = None if options.memory_budget_gb is None and device.type == "cpu" else budget_bytes
    return plan_memory(work, constraints, limit_bytes=limit_bytes, budget_origin=origin, saved=saved)


def evaluation_savings(
    adapter: nn.Module, splits: TokenSplits, precision: Precision, decision: MemoryDecision | None
) -> MemorySavings:
    """Return the savings with which a run has evaluated its model, verified for another copy of the model.

    After training, the model is evaluated within the memory that its training took.

    Args:
        adapter: The model, in float32; moved to the device of ``precision``.
        splits: The data that it was trained on.
        precision: Device and number format.
        decision: What the run has decided (``TrainingState.decisions``); None if it is not known.
    """
    if decision is None or not decision.chunked_loss:
        return MemorySavings()
    adapter.to(precision.device)
    batch = move_batch(_shape(adapter, splits).batch(_VERIFIED_ROWS, _VERIFIED_LENGTH), precision.device)
    objective = task_loss_for(splits.task, adapter, splits.target_scale)
    return verify_savings(adapter, objective, batch, activation_checkpointing=False)


def _shape(adapter: nn.Module, splits: TokenSplits) -> BatchShape:
    contract = getattr(adapter, "contract", None)
    vocab_size = splits.vocab_size if contract is None else contract.vocab_size
    return BatchShape(splits.task, vocab_size, splits.max_length, num_labels=len(splits.label_names or "ab"))
