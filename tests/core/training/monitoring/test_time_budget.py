"""The hours of a run: how many steps fit, where the schedule ends, what an interruption changes."""

from __future__ import annotations

import itertools
import logging
import re
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.training.tiny import TinyTransformer, checkpoints, make_options, make_splits
from transformer_foundry.core.base.errors import ParameterError, TrainingError
from transformer_foundry.core.evaluation.evaluation_loop import evaluate
from transformer_foundry.core.training import Checkpoint, Event, Progress, Started, TrainingOptions, TrainingState, fit
from transformer_foundry.core.training.checkpointing.state import PlannedEnd
from transformer_foundry.core.training.monitoring.step_timing import StepTiming, regression_estimate, steps_within
from transformer_foundry.core.training.monitoring.time_budget import schedule_step
from transformer_foundry.core.training.monitoring.validator import closing_evaluations

BUDGET_S = 12.0

SHORT_FIRST, LONG_FIRST = 21, 24
"""Seeds: the first 30 steps have 14 % fewer, or more, tokens than the others."""


class Clock:
    """A clock that only the model moves: what is measured is exact and the same each time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now


class TimedModel(TinyTransformer):
    """Takes ``step_s`` for a pass of training, a fifth of it for one of evaluation; ``slow`` are passes that differ."""

    def __init__(self, clock: Clock, step_s: float = 0.1, slow: dict[int, float] | None = None, **changes: Any) -> None:
        super().__init__(**changes)
        self.clock, self.step_s, self.slow, self.passes = clock, step_s, slow or {}, 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.passes += self.training
        usual = self.step_s if self.training else self.step_s / 5
        self.clock.now += self.slow.get(self.passes, usual) if self.training else usual
        return super().forward(input_ids, attention_mask)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (
        "trainer",
        *(f"monitoring.{name}" for name in ("validator", "step_timing", "time_budget")),
    ):
        fake = SimpleNamespace(perf_counter=clock.read, monotonic=clock.read)
        monkeypatch.setattr(f"transformer_foundry.core.training.{module}.time", fake)
    return clock


def budget_options(**changes: Any) -> TrainingOptions:
    return make_options(
        **{"max_hours": BUDGET_S / 3600, "eval_steps": 25, "save_steps": 10, "num_samples": 0, **changes}
    )


def train(model: TimedModel, state: TrainingState | None = None, **changes: Any) -> list[Event]:
    return list(fit(model, make_splits(), budget_options(**changes), resume_from=state))


def train_until(model: TimedModel, step: int, state: TrainingState | None = None) -> TrainingState:
    records = fit(model, make_splits(), budget_options(), resume_from=state)
    return next(record.state for record in records if isinstance(record, Checkpoint) and record.step >= step)


def final_rate(records: list[Event]) -> float:
    return [record for record in records if isinstance(record, Progress)][-1].metrics["train/learning_rate"]


@pytest.mark.parametrize("step_s", [0.05, 0.1, 0.25])
def test_a_run_ends_within_its_hours_with_the_learning_rate_at_its_floor(clock: Clock, step_s: float) -> None:
    records = train(TimedModel(clock, step_s))
    assert clock.now - 1000.0 == pytest.approx(BUDGET_S, rel=0.05)
    assert final_rate(records) == pytest.approx(0.1 * budget_options().learning_rate, rel=0.05)


def test_the_budget_counts_over_the_sessions_of_a_run_even_on_slower_machines(clock: Clock) -> None:
    first = train_until(TimedModel(clock, 0.05), 60)
    second = train_until(TimedModel(clock, 0.2), first.step + 30, first)
    clock.now += 5000.0  # between two sessions no time is counted
    last = train(TimedModel(clock, 0.1), second)
    assert checkpoints(last)[-1].state.time_plan.trained_s == pytest.approx(BUDGET_S, rel=0.05)
    assert clock.now - 6000.0 == pytest.approx(BUDGET_S, rel=0.05)
    assert final_rate(last) == pytest.approx(0.1 * budget_options().learning_rate, rel=0.05)


def test_the_start_of_each_session_counts_as_well(clock: Clock) -> None:
    slow = {1: 0.3}
    first = train_until(TimedModel(clock, slow=slow), 20)
    second = train_until(TimedModel(clock, slow=slow), 60, first)
    last = train(TimedModel(clock, slow=slow), train_until(TimedModel(clock, slow=slow), 80, second))
    assert checkpoints(last)[-1].state.time_plan.trained_s == pytest.approx(BUDGET_S, rel=0.02)
    assert final_rate(last) == pytest.approx(0.1 * budget_options().learning_rate, rel=0.05)


def test_a_step_that_compiles_does_not_make_the_plan_short(clock: Clock) -> None:
    state = train_until(TimedModel(clock, slow={1: 0.5, 3: 1.5}), 1)
    first_plan = state.time_plan.points[0]
    # What is left after 2.6 s, in steps of 0.1 s and an evaluation of 0.04 s in every 25 of them.
    assert first_plan.last_step == pytest.approx((BUDGET_S - 2.6) / 0.1, rel=0.05)


def test_a_long_budget_is_enough_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = lambda *_, **__: (None, "Tried to compile.")  # noqa: E731
    monkeypatch.setattr("transformer_foundry.core.training.compile._compile", tried)
    notes = {}
    for hours in (0.1, 1.0):
        started = next(fit(TinyTransformer(), make_splits(), make_options(max_hours=hours, compile="auto")))
        assert isinstance(started, Started)
        notes[hours] = " ".join(started.notes)
    assert "shorter than ten times" in notes[0.1]
    assert "Tried to compile." in notes[1.0]


def test_between_two_plans_an_interruption_changes_no_bit(clock: Clock) -> None:
    states = [record.state for record in checkpoints(train(TimedModel(clock)))]
    plans = {state.step: len(state.time_plan.points) for state in states}
    before, after = next(
        (ours, theirs) for ours, theirs in itertools.pairwise(states[4:]) if plans[ours.step] == plans[theirs.step]
    )
    resumed = train_until(TimedModel(clock, 0.1), after.step, before)
    assert resumed.time_plan.points == after.time_plan.points
    assert all(torch.equal(resumed.model[name], after.model[name]) for name in after.model)


def test_the_learning_rate_has_no_jump_where_a_plan_is_made_anew(clock: Clock) -> None:
    records = train(TimedModel(clock), logging_steps=1)
    rates = [record.metrics["train/learning_rate"] for record in records if isinstance(record, Progress)][4:]
    steepest = max(abs(after - before) for before, after in itertools.pairwise(rates))
    assert steepest < 0.05 * max(rates)


def test_more_hours_than_before_make_a_finished_run_longer(clock: Clock) -> None:
    last = checkpoints(train(TimedModel(clock)))[-1].state
    longer = train(TimedModel(clock), last, max_hours=1.5 * BUDGET_S / 3600)
    assert clock.now - 1000.0 == pytest.approx(1.5 * BUDGET_S, rel=0.05)
    assert final_rate(longer) == pytest.approx(0.1 * budget_options().learning_rate, rel=0.05)


def test_a_finished_run_with_the_same_hours_has_nothing_left_to_do(clock: Clock) -> None:
    last = checkpoints(train(TimedModel(clock)))[-1].state
    assert not [record for record in train(TimedModel(clock), last) if isinstance(record, Progress)]


def test_a_run_without_hours_can_be_given_some(clock: Clock) -> None:
    state = checkpoints(train(TimedModel(clock), max_hours=None, max_steps=20))[-1].state
    began = clock.now
    assert final_rate(train(TimedModel(clock), state, max_steps=20)) == pytest.approx(1e-3, rel=0.05)
    assert clock.now - began == pytest.approx(BUDGET_S, rel=0.05)


def test_a_budget_too_small_for_one_evaluation_is_refused(clock: Clock) -> None:
    with pytest.raises(TrainingError, match=r"0\.5 s.*one evaluation takes") as caught:
        train(TimedModel(clock, 0.2), max_hours=0.5 / 3600)
    assert "Set training.max_hours to" in caught.value.remedy


def test_the_hours_leave_time_for_the_evaluation_after_training(clock: Clock) -> None:
    model, splits = TimedModel(clock), make_splits(validation=200)  # a twelfth of the budget for all of them
    list(fit(model, splits, budget_options(eval_batches=1), is_evaluated=True))
    for split in ("validation", "test"):
        evaluate(model, splits, split, batch_size=4)
    assert clock.now - 1000.0 == pytest.approx(BUDGET_S, rel=0.03)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("causal_lm", 2 + 2),  # rows of validation 7, test 5, in batches of 4
        ("sequence_classification", 2 + 2 + 2),  # and the error analysis
        ("seq2seq_lm", 2 + 2 + 2),
    ],
)
def test_what_follows_training_is_counted_in_evaluations(task: str, expected: int) -> None:
    assert closing_evaluations(make_splits(task), batch_size=4, max_batches=1) == expected
    assert closing_evaluations(make_splits(task), batch_size=4, max_batches=None) == expected / 2
    assert closing_evaluations(make_splits(task, validation=0), batch_size=4, max_batches=1) == 0


def test_hours_and_epochs_cannot_both_be_given() -> None:
    with pytest.raises(ParameterError, match=r"max_hours is 1 and training\.num_train_epochs is 2"):
        TrainingOptions(max_hours=1, num_train_epochs=2)


@pytest.mark.parametrize("max_hours", [None, BUDGET_S / 3600])
def test_after_thirty_steps_the_time_of_the_rest_is_forecast(
    clock: Clock, caplog: pytest.LogCaptureFixture, max_hours: float | None
) -> None:
    caplog.set_level(logging.INFO, "transformer_foundry")
    train(TimedModel(clock), max_hours=max_hours, max_steps=130)
    line = next(record.message for record in caplog.records if record.message.startswith("Forecast"))
    # 100 steps of 0.1 s and 5 evaluations of two batches of 0.02 s; or what is left of the budget after 30 steps.
    assert forecast_seconds(line) == pytest.approx(10.2 if max_hours is None else BUDGET_S - 3.1, rel=0.02)
    assert "model sees" in line


class LongRowsTakeLonger(TimedModel):
    """Takes 0.1 s and 0.01 s for each token."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.step_s = 0.1 + 0.01 * input_ids.numel()
        return super().forward(input_ids, attention_mask)


def forecast_seconds(line: str) -> float:
    """The time of a forecast such as ``Forecast: 1 min 12 s more for 170 steps``."""
    sizes = {"h": 3600, "min": 60, "s": 1}
    found = re.findall(r"([\d.]+) (h|min|s)\b", line.partition(" more ")[0])
    return sum(float(number) * sizes[unit] for number, unit in found)


@pytest.mark.parametrize("seed", [SHORT_FIRST, LONG_FIRST])
def test_steps_that_happen_to_be_short_or_long_at_first_do_not_mislead_the_forecast(
    clock: Clock, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.INFO, "transformer_foundry")
    options = make_options(max_steps=200, eval_steps=None, num_samples=0, seed=seed)
    model, after = LongRowsTakeLonger(clock, output_size=3, is_causal=False), 0.0
    for record in fit(model, make_splits("sequence_classification", train=800), options):
        after = clock.now if record.step <= 30 else after
    line = next(record.message for record in caplog.records if record.message.startswith("Forecast"))
    assert forecast_seconds(line) == pytest.approx(clock.now - after, rel=0.03)


@given(st.floats(0.01, 1.0), st.floats(0.0, 0.1), st.integers(1, 100))
def test_time_that_grows_with_the_size_is_found_for_any_size(fixed: float, each: float, usual: int) -> None:
    sizes = [5, 9, 40, 12, 7, 30, 22, 8, 16, 11]
    seconds = [fixed + each * size for size in sizes]
    assert regression_estimate(seconds, sizes, usual) == pytest.approx(fixed + each * usual, rel=1e-6)


def test_time_that_falls_with_the_size_is_chance() -> None:
    sizes = list(range(1, 31))
    assert regression_estimate([1.0 / size for size in sizes], sizes, 30.0) == pytest.approx(
        fmean(1.0 / n for n in sizes)
    )


@given(st.integers(0, 60), st.integers(1, 200), st.none() | st.integers(1, 40))
def test_costs_are_those_of_every_step_and_evaluation_to_come(step: int, steps: int, every: int | None) -> None:
    seconds = 2.0 + sum(0.14 for _ in range(steps))
    seconds += sum(2.0 for at in range(max(step, 1), step + steps) if every and at % every == 0)
    assert StepTiming(0.13, 0.01, 2.0, every).seconds(steps, step) == pytest.approx(seconds)


@pytest.mark.parametrize("left_s", [5.0, 60.0, 3600.0])
@pytest.mark.parametrize("step", [0, 49, 50])
def test_one_more_step_than_fits_takes_longer_than_there_is(left_s: float, step: int) -> None:
    costs = StepTiming(0.13, 0.01, 2.0, 25)
    steps = steps_within(left_s, costs, step)
    assert costs.seconds(steps, step) <= left_s < costs.seconds(steps + 1, step)


def test_a_schedule_continues_from_its_place_and_ends_with_the_plan() -> None:
    plan = [PlannedEnd(3, 0.01, 50, 1.0), PlannedEnd(30, 0.5, 40, 1.0)]
    assert schedule_step(2, 40, plan) == 2
    assert schedule_step(30, 40, plan) == pytest.approx(0.5 * 40)
    assert schedule_step(40, 40, plan) == pytest.approx(40)
