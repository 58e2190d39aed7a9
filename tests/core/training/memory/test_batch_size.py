from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.core.training.memory.models import LanguageModel
from tests.core.training.memory.test_forecast import CAUSAL, Looking, make_work
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.system.memory import available_bytes, resident_bytes
from transformer_foundry.core.training.memory import (
    MemoryConstraints,
    MemoryPlan,
    MemorySavings,
    fit_memory,
    forecast_memory,
    halve,
    is_out_of_memory,
    memory_budget,
    verify_savings,
)

MODEL = LanguageModel(4000, 32, blocks=2, heads=2)
WORK = make_work(MODEL, vocab_size=4000, length=128)
VERIFIED = verify_savings(MODEL, CAUSAL, WORK.shape.batch(2, 12))


@pytest.fixture(autouse=True)
def nothing_else_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the interpreter holds changes from test to test."""
    from transformer_foundry.core.training.memory import forecast

    monkeypatch.setattr(forecast, "process_bytes", lambda adapter, device: 0)


def needed(rows: int, savings: MemorySavings, accumulation: int = 2) -> int:
    return forecast_memory(WORK, rows, accumulation, savings).needed_bytes


def fit(budget_bytes: int | None, **constraints: Any) -> MemoryPlan:
    return fit_memory(
        WORK,
        MemoryConstraints(**{"total_rows": 64, "timing_s": 0.0, **constraints}, budget_bytes=budget_bytes),
        VERIFIED,
    )


def choice(plan: MemoryPlan) -> tuple[int, int, bool, bool]:
    return plan.rows, plan.accumulation, plan.chunked_loss, plan.activation_checkpointing


def test_without_a_budget_a_step_is_one_micro_batch() -> None:
    plan = fit(None)
    assert choice(plan) == (64, 1, True, False)  # 131 MB of logits are more than a chunk
    assert plan.lines == (f"Training {plan.forecast.sentence()}.",)  # type: ignore[union-attr]


def test_a_wished_micro_batch_stays() -> None:
    assert choice(fit(None, rows=8)) == (8, 8, False, False)
    assert choice(fit(10**10, rows=24)) == (24, 3, False, False)


def test_savings_do_what_they_are_told() -> None:
    assert choice(fit(None, chunked_loss="off", activation_checkpointing="on")) == (64, 1, False, True)
    assert choice(fit(None, rows=8, chunked_loss="on", activation_checkpointing="off")) == (8, 8, True, False)


def test_the_largest_micro_batch_that_fits_is_taken() -> None:
    chunked = VERIFIED.limited_to(chunked_loss=True, activation_checkpointing=False)
    plan = fit(needed(43, chunked), chunked_loss="on", activation_checkpointing="off")
    assert plan.fits
    assert plan.rows == 32  # 64 rows in two equal parts
    assert needed(32, chunked) <= needed(43, chunked) < needed(64, chunked, 1)


def test_a_step_that_fits_with_checkpointing_only_is_checkpointed() -> None:
    least = VERIFIED.limited_to(chunked_loss=False, activation_checkpointing=True)
    plan = fit(needed(24, least), rows=24, total_rows=48)
    assert choice(plan) == (24, 2, False, True)
    assert plan.fits


def test_nothing_fits_into_nothing() -> None:
    plan = fit(10**6)
    assert choice(plan) == (1, 64, True, True)
    assert not plan.fits
    assert "No plan fits the budget; this one needs the least memory." in plan.lines
    assert any("Activation checkpointing: 2 blocks" in line for line in plan.lines)


def test_the_fastest_of_those_that_fit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_foundry.core.training.memory import batch_size

    def seconds(planned: Any, rows: int) -> tuple[float, float]:
        return (1.0 if rows == 32 else 2.0), 0.1

    monkeypatch.setattr(batch_size, "seconds_per_row", seconds)
    assert choice(fit(10**11, timing_s=9.0))[:2] == (32, 2)
    assert choice(fit(10**11, timing_s=0.05))[:2] == (64, 1)  # time for the first one only


def test_passes_are_timed_without_a_trace() -> None:
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    plan = fit(10**11, total_rows=4, timing_s=60.0)
    assert plan.rows in (2, 4)
    assert all(torch.equal(value, before[name]) for name, value in MODEL.state_dict().items())
    assert all(parameter.grad is None for parameter in MODEL.parameters())


def test_a_model_that_cannot_be_simulated_is_fitted_too() -> None:
    work = make_work(Looking())
    plan = fit_memory(work, MemoryConstraints(8, budget_bytes=10**11, timing_s=0.0), MemorySavings())
    assert choice(plan) == (8, 1, False, False)


def test_halving_keeps_the_rows_of_a_step() -> None:
    plan = MemoryPlan(10, 3, 30)
    halved = halve(halve(plan))
    assert (halved.rows, halved.accumulation, halved.total_rows) == (3, 10, 30)
    assert (
        halved.lines[-1] == "Memory ran out with micro-batches of 5: training continues with batch 3 x accumulation 10."
    )
    with pytest.raises(TrainingError, match="one row"):
        halve(MemoryPlan(1, 30, 30))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_allocator_of_the_cpu_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


def test_the_budget_is_said_with_its_source() -> None:
    cpu = torch.device("cpu")
    assert memory_budget(cpu, 12.0) == (12 * 10**9, "The memory budget is 12 GB (training.memory_budget_gb).")
    assert memory_budget(cpu, None) == (None, "")
    limit, line = memory_budget(cpu, None, is_wanted=True)
    assert limit is None or (limit >= resident_bytes() > 0 and "what the machine has free" in line)
    assert available_bytes() is None or available_bytes() > 0  # type: ignore[operator]


def test_freed_memory_can_be_returned() -> None:
    program = "from transformer_foundry.core.system.memory import return_freed_memory; print(return_freed_memory())"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() in ("True", "False")
