"""What only a GPU can show."""

from __future__ import annotations

import pytest
import torch

from tests.core.training.memory.models import LanguageModel
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.system.precision import Precision, choose_precision
from transformer_foundry.core.training.memory import (
    BatchShape,
    MemoryConstraints,
    MemorySavings,
    TrainingWorkload,
    fit_memory,
    forecast_memory,
    is_out_of_memory,
    optimizer_bytes,
    verify_savings,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

CAUSAL = task_loss_for("causal_lm")
SHAPE = BatchShape("causal_lm", 50257, 512)


def make_work(precision: Precision) -> TrainingWorkload:
    model = LanguageModel(50257, 256, blocks=4, heads=4).to(precision.device)
    return TrainingWorkload(model, CAUSAL, SHAPE, precision, optimizer_bytes(model, None), eval_rows=1, sample_rows=0)


def train(work: TrainingWorkload, rows: int, accumulation: int, savings: MemorySavings) -> int:
    """Take three steps; return the most bytes of tensors."""
    torch.cuda.reset_peak_memory_stats()
    optimizer, scaler = torch.optim.AdamW(work.adapter.parameters(), fused=True), work.precision.scaler()
    batch = {name: tensor.to(work.precision.device) for name, tensor in SHAPE.batch(rows).items()}
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(accumulation):
            with work.precision.autocast(), savings.active():
                loss = CAUSAL.loss(work.adapter, batch).loss_sum / (rows * accumulation * SHAPE.length)
            scaler.scale(loss).backward()
            del loss
        scaler.step(optimizer)
        scaler.update()
    return torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_the_savings_are_proven_and_train_on_a_gpu(name: str) -> None:
    if name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("no bf16")
    work = make_work(choose_precision("cuda", name))
    savings = verify_savings(work.adapter, CAUSAL, {key: value.cuda() for key, value in SHAPE.batch(2, 12).items()})
    assert None not in (savings.chunked_loss, savings.activation_checkpointing), savings.lines
    plain = train(work, 8, 1, MemorySavings())
    assert train(work, 8, 1, savings) < plain / 2


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_forecast_covers_what_is_allocated(accumulation: int) -> None:
    work = make_work(choose_precision("cuda", "auto"))
    forecast = forecast_memory(work, 8, accumulation, MemorySavings())
    measured = train(work, 8, accumulation, MemorySavings())
    assert forecast.is_simulated
    assert forecast.peaks["train"] == pytest.approx(measured, rel=0.1)
    assert forecast.needed_bytes - forecast.parts["process"] >= measured


def test_a_plan_for_two_gigabytes_trains_within_them() -> None:
    work = make_work(choose_precision("cuda", "auto"))
    batch = {key: value.cuda() for key, value in SHAPE.batch(2, 12).items()}
    savings = verify_savings(work.adapter, CAUSAL, batch)
    plan = fit_memory(work, MemoryConstraints(64, budget_bytes=2 * 10**9), savings)
    assert plan.fits
    used = savings.limited_to(chunked_loss=plan.chunked_loss, activation_checkpointing=plan.activation_checkpointing)
    assert train(work, plan.rows, plan.accumulation, used) <= 2 * 10**9


def test_running_out_of_memory_on_a_gpu_is_recognised() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**50, device="cuda")
    assert is_out_of_memory(caught.value)
