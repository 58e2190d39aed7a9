from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.memory import models
from tests.core.training.memory.models import LanguageModel, T, V, make_batch
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.training.memory import (
    BatchShape,
    MemoryForecast,
    MemorySavings,
    TrainingWorkload,
    export_bytes,
    forecast_memory,
    optimizer_bytes,
    update_bytes,
    verify_savings,
)
from transformer_foundry.core.training.memory.simulation import LiveBytes, Pass, _measure, pass_peak

CPU = Precision(torch.device("cpu"), torch.float32)
CAUSAL = task_loss_for("causal_lm")


class Looking(models.Model):
    """Looks at the values of its input, which fake tensors do not have."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        assert int(input_ids.max()) < V
        return super().forward(input_ids)


_MASKS: dict[int, Tensor] = {}


@functools.cache
def scale_of(width: int) -> Tensor:
    return torch.tensor(width**-0.5)


class Hoarding(models.Model):
    """Keeps tensors in all places but its parameters."""

    shifts: ClassVar[dict[int, Tensor]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", None)
        self.ramp = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        length = input_ids.size(1)
        if self.table is None:
            self.table = torch.arange(length) * 0.1
            self.ramp = torch.ones(length)
            self.register_buffer("late", torch.zeros(length), persistent=False)
        _MASKS.setdefault(length, torch.ones(length))
        self.shifts.setdefault(length, torch.zeros(length))
        extra = self.table + self.ramp + self.late + _MASKS[length] + self.shifts[length]
        return super().forward(input_ids) * scale_of(16) + extra.sum()


def make_work(model: nn.Module, task: str = "causal_lm", vocab_size: int = V, length: int = T) -> TrainingWorkload:
    shape = BatchShape(task, vocab_size, length)
    return TrainingWorkload(model, task_loss_for(task), shape, CPU, optimizer_bytes(model, None))


def plan_pass(model: nn.Module, task: str = "causal_lm") -> Pass:
    return Pass(model, task_loss_for(task), CPU, MemorySavings(), BatchShape(task, V, T).batch)


def test_live_bytes_are_those_of_the_tensors_that_are_there() -> None:
    known = torch.zeros(100)
    with LiveBytes(torch.device("cpu"), [known]) as live:
        first = known * 2
        second = torch.zeros(1000)
        view = second.view(10, 100)
        del second
        assert live.now == 400 + 4000
        del view
        third = first.add_(1)
        assert live.now == 400
    assert live.peak == 4400
    assert third is first


@pytest.mark.parametrize("make", [models.Model, models.Tied, models.TorchEncoder, models.Nodes, models.Shared])
def test_fake_tensors_have_the_peak_of_real_ones(make: type[models.Model]) -> None:
    planned = plan_pass(make())
    found, is_simulated = pass_peak(planned, 6)
    assert is_simulated
    assert found == pytest.approx(max(_measure(planned, 6)), rel=0.02)


def test_a_model_that_looks_at_values_is_measured_at_two_sizes() -> None:
    found, is_simulated = pass_peak(plan_pass(Looking()), 16)
    expected, _ = pass_peak(plan_pass(models.Model()), 16)
    assert not is_simulated
    assert found == pytest.approx(expected, rel=0.02)


def test_a_forecast_leaves_no_trace() -> None:
    model = models.Tied().eval()
    weights = dict(model.named_parameters())
    random = torch.get_rng_state()
    forecast_memory(make_work(model), 4, 2, MemorySavings())
    assert dict(model.named_parameters()).keys() == weights.keys()
    assert all(parameter is weights[name] for name, parameter in model.named_parameters())
    assert model.head.weight is model.embedding.weight
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training


def test_no_fake_tensor_stays_behind() -> None:
    model = Hoarding()
    _, is_simulated = pass_peak(plan_pass(model), 4)
    assert is_simulated
    logits = model(make_batch()["input_ids"])
    assert type(logits) is Tensor
    assert logits.isfinite().all()


def test_parts_are_counted_once() -> None:
    model = models.Tied()
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    parts = forecast_memory(make_work(model), 2, 1, MemorySavings()).parts
    assert (parts["parameters"], parts["gradients"], parts["optimizer"]) == (size, size, 2 * size)


def test_an_export_needs_more_than_its_weights() -> None:
    small, large = models.Model(), models.Model(vocab_size=20_000)
    growth = 4 * sum(p.numel() for p in large.parameters()) - 4 * sum(p.numel() for p in small.parameters())
    assert export_bytes(large) - export_bytes(small) == pytest.approx(5.6 * growth, abs=2)


def test_the_optimizer_decides_what_is_kept() -> None:
    model = models.Model()
    parameters = list(model.parameters())
    size = 4 * sum(parameter.numel() for parameter in parameters)
    adamw, sgd = torch.optim.AdamW(parameters), torch.optim.SGD(parameters, momentum=0.9)
    assert optimizer_bytes(model, adamw.param_groups) == 2 * size
    assert optimizer_bytes(model, sgd.param_groups, has_average=True) == 2 * size
    assert optimizer_bytes(model, torch.optim.SGD(parameters).param_groups) == 0


@pytest.mark.parametrize(
    ("optimizer", "settings"), [(torch.optim.Muon, {}), (torch.optim.AdamW, {"fused": True}), (torch.optim.SGD, {})]
)
def test_a_step_of_the_optimizer_needs_no_more_than_foreseen(optimizer: Any, settings: dict[str, bool]) -> None:
    matrices = [nn.Parameter(torch.randn(300, 300)), nn.Parameter(torch.randn(300, 40))]
    optimizer = optimizer(matrices, lr=0.1, weight_decay=0.0, **settings)
    for _ in range(2):  # the first makes the state
        for matrix in matrices:
            matrix.grad = torch.randn_like(matrix)
        kept = [value for state in optimizer.state.values() for value in state.values()]
        with LiveBytes(torch.device("cpu"), [*matrices, *(matrix.grad for matrix in matrices), *kept]) as live:
            optimizer.step()
    small = 20_000  # single numbers and what a kernel pads
    foreseen = update_bytes(optimizer.param_groups)
    assert foreseen - small <= live.peak <= foreseen + small


def test_a_large_step_of_the_optimizer_can_be_the_peak() -> None:
    model = models.Model()
    work = dataclasses.replace(make_work(model), update_bytes=10**9)
    assert "most for the optimizer's step" in forecast_memory(work, 1, 1, MemorySavings()).sentence()


def test_savings_and_smaller_batches_need_less() -> None:
    model = LanguageModel(4000, 32, blocks=4, heads=2)
    work = make_work(model, vocab_size=4000, length=256)
    savings = verify_savings(model, CAUSAL, work.shape.batch(2, 12))
    chunked = savings.limited_to(chunked_loss=True, activation_checkpointing=False)
    peaks = [forecast_memory(work, 32, 1, saving).peaks["train"] for saving in (MemorySavings(), chunked, savings)]
    assert peaks[0] > 2 * peaks[1]
    assert peaks[1] > peaks[2]
    assert forecast_memory(work, 16, 2, savings).peaks["train"] < peaks[2]


def test_earlier_gradients_are_counted_when_micro_batches_are_accumulated() -> None:
    model = models.Model(vocab_size=20_000)
    work = make_work(model)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    once, twice = (forecast_memory(work, 2, count, MemorySavings()).peaks["train"] for count in (1, 2))
    assert 0.5 * size < twice - once <= size
    several = forecast_memory(dataclasses.replace(work, batches_per_step=2), 2, 1, MemorySavings())
    assert several.peaks["train"] == twice
    assert several.plan == "batch 2 x accumulation 2"


def test_the_forecast_is_told_in_one_sentence() -> None:
    parts = {"process": 10**9}
    forecast = MemoryForecast(parts, {"train": 8 * 10**9, "resume": 10**9}, 0.05, "batch 8 x accumulation 4")
    assert forecast.sentence(12 * 10**9) == "needs 9.4 GB of 12: batch 8 x accumulation 4"
    assert forecast.fits(12 * 10**9)
    assert not forecast.fits(9 * 10**9)
    more = MemoryForecast(parts, {"train": 10**9, "resume": 2 * 10**9}, 0.0, "batch 1 x accumulation 1")
    assert more.sentence().endswith("(most for resuming from a checkpoint)")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_forecast_covers_a_process_that_trains() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.memory_forecast", "encoder, small"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["needed"] >= found["measured"]
    assert found["forecast"] == pytest.approx(found["measured"], rel=0.1)


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification"])
def test_synthetic_batches_have_the_form_of_real_ones(task: str) -> None:
    batch = BatchShape(task, V, T, num_labels=3).batch(4, 5)
    assert batch["input_ids"].shape == (4, 5)
    assert batch["labels"].shape == ((4,) if task == "sequence_classification" else (4, 5))
    assert batch.keys() >= make_batch(task).keys()
