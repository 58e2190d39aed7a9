"""Choose micro-batch, gradient accumulation and memory savings that fit a budget."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.models.side_effects import no_side_effects
from transformer_foundry.core.system.memory import available_bytes, resident_bytes
from transformer_foundry.core.training.memory.chunked_cross_entropy import CHUNK_BYTES
from transformer_foundry.core.training.memory.forecast import GB, MemoryForecast, TrainingWorkload, forecast_memory
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.memory.simulation import Pass

__all__ = [
    "MemoryConstraints",
    "MemoryPlan",
    "fit_memory",
    "halve",
    "is_out_of_memory",
    "memory_budget",
    "seconds_per_row",
]

# A plan must be this much faster than one with fewer savings to be preferred: timings of one step are no more precise.
_WORTHWHILE = 0.95
_ALLOCATION_FAILURES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
)


@dataclass(frozen=True)
class MemoryConstraints:
    """Options of the user that a plan must respect.

    Attributes:
        total_rows: Rows of a batch of this process, which may be divided into micro-batches.
        rows: Rows of a micro-batch; None chooses them.
        chunked_loss: ``auto``, ``on`` or ``off``.
        activation_checkpointing: ``auto``, ``on`` or ``off``.
        budget_bytes: Memory limit; None for no limit.
        timing_s: Time limit in seconds for timing plans; 0 takes the plan with the fewest savings.
    """

    total_rows: int
    rows: int | None = None
    chunked_loss: str = "auto"
    activation_checkpointing: str = "auto"
    budget_bytes: int | None = None
    timing_s: float = 20.0


@dataclass(frozen=True)
class MemoryPlan:
    """Micro-batches and savings of a run.

    Attributes:
        rows: Rows of a micro-batch; the last of a batch may have fewer.
        accumulation: Micro-batches of a batch.
        total_rows: Rows of a batch.
        chunked_loss: Whether the loss is computed in chunks.
        activation_checkpointing: Whether blocks are recomputed in the backward pass.
        fits: Whether the forecast is within the budget.
        lines: Sentences for the user.
        forecast: The forecast memory; not saved in checkpoints.
    """

    rows: int
    accumulation: int
    total_rows: int
    chunked_loss: bool = False
    activation_checkpointing: bool = False
    fits: bool = True
    lines: tuple[str, ...] = ()
    forecast: MemoryForecast | None = None


@dataclass(frozen=True)
class _Candidate:
    rows: int
    savings: MemorySavings
    forecast: MemoryForecast


def memory_budget(device: torch.device, budget_gb: float | None, *, is_wanted: bool = False) -> tuple[int | None, str]:
    """Return the memory limit of the device in bytes (None for no limit), and a sentence about its source.

    Args:
        device: Device of the training.
        budget_gb: ``training.memory_budget_gb``, in gigabytes of 10^9 bytes.
        is_wanted: Whether a limit is needed even if none is set, because the batch size is automatic.
    """
    if budget_gb is not None:
        return int(budget_gb * GB), f"The memory budget is {budget_gb:g} GB (training.memory_budget_gb)."
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        limit = int(total * torch.cuda.get_per_process_memory_fraction(device))
        return limit, f"The memory budget is the GPU's: {limit / GB:.1f} GB."
    available = available_bytes() if is_wanted else None
    if available is None:
        return None, ""
    limit = available + resident_bytes()
    return (
        limit,
        f"The memory budget is what the machine has free: {limit / GB:.1f} GB (set training.memory_budget_gb).",
    )


def fit_memory(work: TrainingWorkload, constraints: MemoryConstraints, verified: MemorySavings) -> MemoryPlan:
    """Choose micro-batch, accumulation and savings: the fastest plan that fits.

    For each choice of savings the largest micro-batch that fits and half of it are forecast, and a pass of each is
    timed until ``constraints.timing_s`` is spent. Without a budget the largest micro-batch is taken, and nothing is
    timed. With ``auto`` a CPU computes the loss in chunks whenever there is more than one chunk (0.8 to 1.0 of the
    time); on a GPU, where that may take longer than a smaller micro-batch, both are timed.

    Args:
        work: The model and its passes; the model must be on its device for passes to be timed.
        constraints: Options of the user.
        verified: The savings that the model can use; see ``verify_savings``.

    Returns:
        The plan; if none fits, the one that needs least memory, with ``fits`` false.
    """
    choices = _choices(constraints, verified, work.precision.device)
    if constraints.budget_bytes is None:
        return _plan(_candidate(work, choices[0], verified, _sizes(constraints)[0]), constraints, verified, fits=True)
    fitting = [found for choice in choices for found in _largest(work, choice, verified)]
    if fitting:
        return _plan(_fastest(work, constraints, fitting), constraints, verified, fits=True)
    smallest = _candidate(work, choices[-1], verified, _sizes(constraints)[-1], saves_all=True)
    return _plan(smallest, constraints, verified, fits=smallest.forecast.fits(constraints.budget_bytes))


def halve(plan: MemoryPlan) -> MemoryPlan:
    """Return ``plan`` with half the rows in a micro-batch and the same rows in a batch, after memory ran out.

    Raises:
        TrainingError: If a micro-batch already has one row.
    """
    if plan.rows == 1:
        raise TrainingError(
            "Memory ran out with micro-batches of one row.",
            "Expected a model whose training step fits into memory with one row.",
            "Set training.activation_checkpointing=on and training.chunked_loss=on, or shorten data.max_length.",
        )
    rows = math.ceil(plan.rows / 2)
    accumulation = math.ceil(plan.total_rows / rows)
    sizes = f"batch {rows} x accumulation {accumulation}"
    line = f"Memory ran out with micro-batches of {plan.rows}: training continues with {sizes}."
    return replace(plan, rows=rows, accumulation=accumulation, lines=(*plan.lines, line), forecast=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` means that the memory of a GPU or a CPU ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _ALLOCATION_FAILURES)


def _choices(constraints: MemoryConstraints, verified: MemorySavings, device: torch.device) -> list[MemoryConstraints]:
    """Return ``constraints`` with each verified choice for ``auto``, fewest savings first."""
    decided = {
        "chunked_loss": ["off", "on"] if verified.chunked_loss is not None and device.type != "cpu" else ["auto"],
        "activation_checkpointing": ["off", "on"] if verified.activation_checkpointing is not None else ["off"],
    }
    for name in decided:
        if getattr(constraints, name) != "auto":
            decided[name] = [getattr(constraints, name)]
    return [
        replace(constraints, chunked_loss=chunks, activation_checkpointing=checkpoints)
        for checkpoints in decided["activation_checkpointing"]
        for chunks in decided["chunked_loss"]
    ]


def _sizes(constraints: MemoryConstraints) -> list[int]:
    """Return the sizes of micro-batches that divide a batch as evenly as possible, largest first."""
    if constraints.rows is not None:
        return [constraints.rows]
    total = constraints.total_rows
    return list(dict.fromkeys(math.ceil(total / count) for count in range(1, total + 1)))


def _largest(work: TrainingWorkload, constraints: MemoryConstraints, verified: MemorySavings) -> Sequence[_Candidate]:
    """Return the largest micro-batch that fits, and half of it; a smaller one never needs more memory."""
    sizes = _sizes(constraints)
    low, high = 0, len(sizes)
    best: _Candidate | None = None
    while low < high:
        middle = (low + high) // 2
        candidate = _candidate(work, constraints, verified, sizes[middle])
        if candidate.forecast.fits(constraints.budget_bytes):
            best, high = candidate, middle
        else:
            low = middle + 1
    if best is None:
        return []
    half = math.ceil(best.rows / 2)
    is_smaller = constraints.rows is None and half < best.rows
    return [best, _candidate(work, constraints, verified, half)] if is_smaller else [best]


def _candidate(
    work: TrainingWorkload,
    constraints: MemoryConstraints,
    verified: MemorySavings,
    rows: int,
    *,
    saves_all: bool = False,
) -> _Candidate:
    logits = 4 * rows * work.shape.length * (work.shape.decoder_vocab_size or work.shape.vocab_size)
    is_large = logits > CHUNK_BYTES or saves_all
    chunks = constraints.chunked_loss == "on" or (constraints.chunked_loss == "auto" and is_large)
    checkpoints = constraints.activation_checkpointing == "on"
    savings = verified.limited_to(chunked_loss=chunks, activation_checkpointing=checkpoints)
    return _Candidate(rows, savings, forecast_memory(work, rows, math.ceil(constraints.total_rows / rows), savings))


def _fastest(work: TrainingWorkload, constraints: MemoryConstraints, candidates: Sequence[_Candidate]) -> _Candidate:
    """Return the fastest candidate; where the difference is small the earlier one, which has fewer savings."""
    device = next(work.adapter.parameters()).device
    best = candidates[0]
    if len(candidates) == 1 or constraints.timing_s <= 0 or device.type != work.precision.device.type:
        return best
    left, fastest = constraints.timing_s, float("inf")
    for candidate in candidates:
        planned = Pass(
            work.adapter, work.objective, work.precision, candidate.savings, work.shape.batch,
            label_smoothing=work.label_smoothing,
        )  # fmt: skip
        try:
            seconds, spent = seconds_per_row(planned, candidate.rows)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            torch.cuda.empty_cache()
            continue  # the forecast was too low
        if seconds < _WORTHWHILE * fastest:
            best, fastest = candidate, seconds
        left -= spent
        if left <= 0:
            break
    return best


def _plan(candidate: _Candidate, constraints: MemoryConstraints, verified: MemorySavings, *, fits: bool) -> MemoryPlan:
    forecast = candidate.forecast
    lines = [f"Training {forecast.sentence(constraints.budget_bytes)}."]
    if not fits:
        lines.append("No plan fits the budget; this one needs the least memory.")
    if not fits or "on" in (constraints.chunked_loss, constraints.activation_checkpointing):
        lines += verified.lines  # the reason why a requested or missing saving is not used
    return MemoryPlan(
        candidate.rows,
        math.ceil(constraints.total_rows / candidate.rows),
        constraints.total_rows,
        candidate.savings.chunked_loss is not None,
        candidate.savings.activation_checkpointing is not None,
        fits,
        tuple(lines),
        forecast,
    )


def seconds_per_row(planned: Pass, rows: int) -> tuple[float, float]:
    """Time a training pass without side effects on the model.

    Returns:
        Seconds per row of the faster of two passes (the first loads kernels); seconds spent.
    """
    weights = [weight for weight in planned.adapter.parameters() if weight.requires_grad]
    device = weights[0].device
    batch = {name: tensor.to(device) for name, tensor in planned.make_batch(rows).items()}
    began = time.perf_counter()
    seconds = []
    with no_side_effects(planned.adapter, train=True, allow_tf32=True):
        for _ in range(2):
            start = time.perf_counter()
            with planned.precision.autocast(), planned.savings.active():
                loss = planned.loss(batch).trained
            torch.autograd.grad(loss, weights, allow_unused=True)
            del loss
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return min(seconds) / rows, time.perf_counter() - began
