"""``build_trainer``: the one place where the parts of a training run are made and joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.data.dataloading.batches import BatchSource, move_batch, split_rows, training_batches
from transformer_foundry.core.evaluation.samples import TextDecoder
from transformer_foundry.core.models.adapter import bare_model
from transformer_foundry.core.models.inference.own_loss import find_own_terms
from transformer_foundry.core.models.inference.probe import model_file
from transformer_foundry.core.models.losses import Batch, TaskLoss, task_loss_for
from transformer_foundry.core.models.model_errors import train_with_model_code
from transformer_foundry.core.system.distributed import SINGLE_PROCESS, ProcessGroup, join_processes
from transformer_foundry.core.system.precision import Precision, choose_precision
from transformer_foundry.core.system.random_state import RandomState, capture_random, preserve_random, seed_random
from transformer_foundry.core.training.checkpointing.async_copy import StagingBuffers
from transformer_foundry.core.training.checkpointing.compatibility import check_resume, starting_position
from transformer_foundry.core.training.checkpointing.run_manifest import describe_run
from transformer_foundry.core.training.checkpointing.state import (
    LoopState,
    LossStatistics,
    LossWindow,
    RunDecisions,
    StepBatch,
    TrainingState,
    capture_model,
    expected_size_bytes,
)
from transformer_foundry.core.training.compile import compile_if_worthwhile
from transformer_foundry.core.training.memory.batch_size import MemoryPlan
from transformer_foundry.core.training.memory.planning import PlannedMemory, plan_run_memory
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.monitoring.metrics import ThroughputMonitor, TrainMetrics
from transformer_foundry.core.training.monitoring.preflight import (
    keep_step_batch,
    plan_steps,
    processes_note,
    require_fit,
    shared_values,
    starting_notes,
)
from transformer_foundry.core.training.monitoring.step_timing import StepSizes, StepTimer
from transformer_foundry.core.training.monitoring.time_budget import TimeBudget, starting_time_plan
from transformer_foundry.core.training.monitoring.triggers import Triggers
from transformer_foundry.core.training.monitoring.validator import Validator, closing_evaluations
from transformer_foundry.core.training.optim.ema import EMA
from transformer_foundry.core.training.optim.optimizers import build_optimizers
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.train_step import GradientAccumulation, TrainStep
from transformer_foundry.core.training.trainer import Trainer

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["build_train_step", "build_trainer"]

_PROBED_ROWS = 4  # of the first batch, for which the model's own loss is computed


def build_trainer(
    adapter: nn.Module,
    splits: TokenSplits,
    options: TrainingOptions,
    *,
    tokenizer: TextDecoder | None = None,
    resume_from: TrainingState | None = None,
    identity: Mapping[str, str] | None = None,
    manifest: Mapping[str, Any] | None = None,
    is_evaluated: bool = False,
) -> Trainer:
    """Return a trainer that is ready for its first step; ``fit`` describes the arguments.

    Raises:
        ParameterError: If the processes cannot share the batch.
        TrainingError: If data and model do not fit each other, or training does not fit the memory.
        ModelError: If the model does not run on the longest rows; names the line.
        CheckpointError: If ``resume_from`` belongs to another model, other data or other options.
    """
    _require_fit(adapter, splits, options)
    precision = choose_precision(options.device, options.precision)
    processes = join_processes(precision.device, 60 * options.process_timeout_minutes)
    identity = {"data": splits.fingerprint, **(identity or {})}
    processes.require_same(shared_values(options, identity))

    step_batch = keep_step_batch(options, processes.world_size, resume_from, len(splits.train))
    assert step_batch.rows_per_batch is not None
    assert step_batch.batches_per_step is not None
    batches = training_batches(splits, batch_size=step_batch.rows_per_batch, seed=options.seed)
    batches_per_step = step_batch.batches_per_step
    loop, window, statistics, decisions = _starting_states(resume_from, options, identity, processes.world_size)
    processes.require_same_step(loop.step)
    closing = _closing_evaluations(splits, options, processes) if is_evaluated else 0.0
    time_budget = _time_budget(options, batches, batches_per_step, processes, loop, resume_from, closing)
    triggers = Triggers(options, len(splits.validation) > 0, len(batches), batches_per_step)
    notes = starting_notes(triggers, loop, time_budget)
    if resume_from is not None:
        found = check_resume(resume_from, options, identity, time_budget.total_steps, precision)
        notes = [*resume_from.notes, *found, *processes_note(resume_from, step_batch), *notes]

    objective = task_loss_for(splits.task, adapter, splits.target_scale)
    train_step = build_train_step(adapter, objective, options, precision, processes)
    random_at_start = _load_weights(train_step, resume_from, options.seed)
    if triggers.is_finished(loop, time_budget.total_steps):  # nothing is computed that would need a plan
        rows = step_batch.rows_per_batch
        memory = PlannedMemory(MemoryPlan(rows, 1, rows), MemorySavings(), None)
    else:
        notes += _add_own_terms(train_step, batches.batch(0), options, resume_from)
        steps_left, left_s = time_budget.total_steps - loop.step, time_budget.left_s()
        memory, chosen = _choose_savings(
            train_step, splits, batches, options, step_batch, decisions, steps_left=steps_left, left_s=left_s
        )
        notes += chosen

    accumulation = GradientAccumulation(
        train_step, batches, batches_per_step, memory, decisions, processes, options.seed
    )
    return Trainer(
        adapter=adapter,
        options=options,
        identity=identity,
        precision=precision,
        train_step=train_step,
        accumulation=accumulation,
        time_budget=time_budget,
        triggers=triggers,
        validator=_validator(train_step, splits, options, memory.savings, tokenizer),
        metrics=TrainMetrics(window),
        throughput=ThroughputMonitor(bare_model(adapter), precision),
        staging=_warm_staging_buffers(bare_model(adapter)),
        loop=loop,
        statistics=statistics,
        batches_per_epoch=len(batches),
        step_batch=step_batch,
        random_at_start=random_at_start,
        manifest=_manifest(train_step, options, identity, loop.step, time_budget.total_steps, step_batch, manifest),
        notes=tuple(notes),
        last_state=resume_from,
        is_resumed=resume_from is not None,
    )


def _require_fit(adapter: nn.Module, splits: TokenSplits, options: TrainingOptions) -> None:
    require_fit(adapter, splits)
    if splits.task == "regression" and options.label_smoothing:
        raise ParameterError(
            f"training.label_smoothing is {options.label_smoothing}, but the data have numbers, not classes.",
            "Expected 0 for a regression.",
            "Set training.label_smoothing=0.",
        )


def _starting_states(
    resume_from: TrainingState | None, options: TrainingOptions, identity: Mapping[str, str], world_size: int
) -> tuple[LoopState, LossWindow, LossStatistics, RunDecisions]:
    """Return the states that a session starts with: new ones, or copies of those that it resumes from."""
    if resume_from is None:
        return LoopState(), LossWindow(), LossStatistics(), RunDecisions()
    loop = dataclasses.replace(resume_from.loop.copy(), position=starting_position(resume_from, options, identity))
    decisions = resume_from.decisions.copy()
    if resume_from.step_batch.world_size not in (None, world_size):
        decisions.memory = None  # a process has another share of the rows
    return loop, resume_from.loss_window.copy(), resume_from.loss_statistics.copy(), decisions


def _time_budget(
    options: TrainingOptions,
    batches: BatchSource,
    batches_per_step: int,
    processes: ProcessGroup,
    loop: LoopState,
    resume_from: TrainingState | None,
    closing: float,
) -> TimeBudget:
    return TimeBudget(
        options.max_hours,
        starting_time_plan(options.max_hours, resume_from),
        step=loop.step,
        planned_steps=plan_steps(options, len(batches), batches_per_step),
        timer=StepTimer(options.eval_steps, StepSizes(batches, batches_per_step, processes)),
        closing_evaluations=closing,
        processes=processes,
    )


def _closing_evaluations(splits: TokenSplits, options: TrainingOptions, processes: ProcessGroup) -> float:
    rows, most = options.rows_per_evaluation_batch, options.eval_batches
    return closing_evaluations(splits, batch_size=rows, max_batches=most, world_size=processes.world_size)


def build_train_step(
    adapter: nn.Module,
    objective: TaskLoss,
    options: TrainingOptions,
    precision: Precision,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> TrainStep:
    """Return the train step of ``adapter``, which is moved to the device of ``precision``."""
    adapter.to(precision.device)
    model, contract = bare_model(adapter), getattr(adapter, "contract", None)
    return TrainStep(
        adapter,
        objective,
        build_optimizers(model, options, output_size=None if contract is None else contract.output_size),
        precision,
        precision.scaler(),
        average=None if options.ema_decay is None else EMA(model, options.ema_decay),
        max_grad_norm=options.max_grad_norm or float("inf"),
        label_smoothing=options.label_smoothing,
        processes=processes,
    )


def _load_weights(train_step: TrainStep, resume_from: TrainingState | None, seed: int) -> RandomState:
    """Restore a checkpoint, or share the initial weights; return the random state that training starts with."""
    if resume_from is not None:
        train_step.restore(resume_from)
        return resume_from.random
    train_step.processes.broadcast_weights(bare_model(train_step.adapter))
    with preserve_random(train_step.precision.device):
        seed_random(seed)
        return capture_random(train_step.precision.device)


def _add_own_terms(
    train_step: TrainStep, batch: Batch, options: TrainingOptions, resume_from: TrainingState | None
) -> list[str]:
    """Add the terms of the model's own loss to the objective; return the line that names them."""
    # A run of a version without the option continues without the terms.
    is_older = resume_from is not None and "model_loss" not in resume_from.options
    wanted = "ours" if is_older else options.model_loss
    adapter = train_step.adapter
    first = move_batch(split_rows(batch, _PROBED_ROWS)[0], train_step.precision.device)
    own_terms, line = train_with_model_code(
        lambda: find_own_terms(adapter, first, wanted),
        "the model to be trained on the first rows of the data",
        model_file(bare_model(adapter)),
        only_of_model=True,
    )
    train_step.objective = dataclasses.replace(train_step.objective, own_terms=own_terms)
    return [line] if line else []


def _choose_savings(
    train_step: TrainStep,
    splits: TokenSplits,
    batches: BatchSource,
    options: TrainingOptions,
    step_batch: StepBatch,
    decisions: RunDecisions,
    *,
    steps_left: int,
    left_s: float | None,
) -> tuple[PlannedMemory, list[str]]:
    """Save memory and compile as far as needed, as earlier sessions decided; return the plan and what was chosen."""
    adapter, world_size = train_step.adapter, train_step.processes.world_size
    share = -(-step_batch.rows_per_step // world_size)
    rows = min(step_batch.rows_per_batch or share, share)
    batches_of_share = -(-share // rows)
    memory = train_with_model_code(
        lambda: plan_run_memory(train_step, splits, options, rows, batches_of_share, decisions.memory),
        f"the model to be trained on rows of {splits.max_length} tokens, the longest of the data",
        model_file(bare_model(adapter)),
        only_of_model=True,
    )
    passes_per_step = batches_of_share * memory.plan.accumulation
    compilation = compile_if_worthwhile(
        adapter,
        train_step.loss,
        split_rows(batches.batch(0), memory.plan.rows)[0],
        train_step.precision,
        mode=options.compile,
        decided=decisions.is_compiled,
        changes_passes=memory.savings.is_any,
        passes_left=steps_left * passes_per_step,
        left_s=left_s,
    )
    train_step.savings, train_step.compiled_loss = memory.savings, compilation.loss
    decisions.memory, decisions.is_compiled = memory.decision(), compilation.is_compiled
    return memory, [*memory.plan.lines, *compilation.notes]


def _validator(
    train_step: TrainStep,
    splits: TokenSplits,
    options: TrainingOptions,
    savings: MemorySavings,
    tokenizer: TextDecoder | None,
) -> Validator:
    return Validator(
        train_step.adapter,
        splits,
        train_step.precision,
        savings,
        train_step.processes,
        tokenizer,
        batch_size=options.rows_per_evaluation_batch,
        max_batches=options.eval_batches,
        samples=options.samples,
        seed=options.seed,
    )


def _manifest(
    train_step: TrainStep,
    options: TrainingOptions,
    identity: Mapping[str, str],
    step: int,
    total_steps: int,
    step_batch: StepBatch,
    extra: Mapping[str, Any] | None,
) -> dict[str, Any]:
    described = describe_run(
        options,
        identity,
        step=step,
        total_steps=total_steps,
        world_size=train_step.processes.world_size,
        rows_per_step=step_batch.rows_per_step,
        extra=extra,
    )
    return described | {"checkpoint_bytes": expected_size_bytes(bare_model(train_step.adapter))}


def _warm_staging_buffers(model: nn.Module) -> StagingBuffers:
    """Return staging buffers that have held a copy of ``model``: first-touch page faults cost more than a save."""
    staging = StagingBuffers()
    capture_model(model, staging.copy_later)
    staging.begin({})
    return staging
