"""How long a run takes, and how many steps fit into the hours it may take.

The plan of a run with ``training.max_hours`` is a list of points (step, share of the schedule done, last step, seconds
a step). Between two points the share grows evenly with the steps, so that the learning rate is a function of the step
and of the points, which a checkpoint keeps: an interruption between two points changes no bit.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.base.text import format_duration
from transformer_foundry.core.system.distributed import SINGLE_PROCESS, ProcessGroup
from transformer_foundry.core.training.checkpointing.state import Counters, TrainingState
from transformer_foundry.core.training.monitoring.step_timing import (
    FORECAST_STEPS,
    StepSizes,
    StepTimer,
    StepTiming,
    steps_within,
)
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["TimeBudget", "schedule_step"]

_FIRST_LOOK = 3
"""Steps before the first plan."""

_MARKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of the schedule at which the plan is made anew: what is wrong after the last can be wrong by 2 % only."""

_OTHER_MACHINE = 0.1
"""A session this much slower or faster than the plan says makes a plan of its own after ``FORECAST_STEPS``."""

_LATE = 0.01
"""A session that would end this share of the budget too late or too early (it has loaded, compiled, repeated a slow
first step) makes a plan of its own after its first steps."""

_TRUST = 5
"""The speed of earlier sessions counts like so many steps of this one, until ``FORECAST_STEPS`` are measured."""

_PLACEHOLDER_STEPS = 100
_COMPUTE_OPTIMAL = "about 20 is best for the compute spent, Hoffmann et al. 2022"


def schedule_step(step: int, total_steps: int, plan: list[list[float]] | None) -> float:
    """Return where on a schedule of ``total_steps`` a run is at ``step``; it need not be a whole number.

    Example:
        >>> schedule_step(50, 100, None)
        50
        >>> schedule_step(60, 70, [[50, 0.5, 70, 0.1]])  # half the schedule in 50 steps, the other half in 20
        52.5
    """
    points = [point for point in plan or [] if point[0] <= step]
    if not points:
        return step
    at, share, last = points[-1][:3]
    done = share + (1.0 - share) * min(1.0, (step - at) / max(1.0, last - at))
    return done * total_steps


class TimeBudget:
    """The clock of a session: measures it, forecasts it, and plans the steps of a run with ``max_hours``.

    Args:
        options: ``max_hours`` and ``eval_steps``.
        counters: Time and plan of earlier sessions; a new budget is planned into them.
        planned_steps: Steps of a run without ``max_hours``.
        sizes: Of the steps.
        resumed: State that the session goes on from.
        processes: Those that must agree.

    Attributes:
        total_steps: Steps of the whole run as planned now.
        meter: What is measured.
    """

    def __init__(
        self,
        options: TrainingOptions,
        counters: Counters,
        planned_steps: int,
        sizes: StepSizes,
        *,
        resumed: TrainingState | None = None,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self._began = time.monotonic()
        self._processes = processes
        self.meter = StepTimer(options.eval_steps, sizes)
        self._budget_s = None if options.max_hours is None else options.max_hours * 3600
        if self._budget_s is None or (resumed is not None and resumed.forked_from):
            # The time of a fork is its own.
            counters.trained_s, counters.time_plan = 0.0, None
        self._earlier_s = counters.trained_s
        self._starts_anew = counters.step > 0 and counters.time_plan is None
        self._first_steps = planned_steps
        if self._budget_s is not None:
            self._first_steps = max(planned_steps, counters.step + _PLACEHOLDER_STEPS)
            before = None if resumed is None else resumed.options.get("max_hours")
            if counters.time_plan and before != options.max_hours:
                self._rescale(counters)
        self.total_steps = self.steps_of(counters)

    def steps_of(self, counters: Counters) -> int:
        """Return the steps of the whole run by the plan in ``counters``."""
        return int(counters.time_plan[-1][2]) if counters.time_plan else self._first_steps

    def elapsed_s(self) -> float:
        """Return the seconds of this run that count against its budget, those of earlier sessions included."""
        return self._earlier_s + time.monotonic() - self._began

    def left_s(self) -> float | None:
        """Return the seconds of the budget that are left; None without a budget."""
        return None if self._budget_s is None else max(0.0, self._budget_s - self.elapsed_s())

    def should_replan(self, counters: Counters) -> bool:
        """Whether costs are wanted after this step: for the forecast, or for a plan."""
        if self.meter.steps == FORECAST_STEPS:
            return True
        return self._budget_s is not None and (self.meter.steps == _FIRST_LOOK or self._plan_is_due(counters))

    def replan(self, counters: Counters) -> StepTiming:
        """Return what the steps of this session cost, and plan the rest of the run anew if that is due.

        Args:
            counters: Step and plan; a new point is added to the plan.

        Raises:
            TrainingError: If the budget is too small for one evaluation.
        """
        measured = self._blend_with_prior(self.meter.costs(), counters)
        costs, elapsed = self._processes.all_gather((measured, self.elapsed_s()))[0]
        if self._budget_s is not None and (
            self._plan_is_due(counters)
            or self._is_other_machine(counters, costs)
            or self._is_late(counters, costs, elapsed)
        ):
            if not counters.time_plan:
                self._require_enough(elapsed, costs)
            share = self._share(counters)
            last = counters.step + steps_within(self._budget_s - elapsed, costs, counters.step)
            points = [*(counters.time_plan or []), [counters.step, share, last, costs.per_step_s]]
            counters.time_plan = points
        self.total_steps = self.steps_of(counters)
        return costs

    def forecast(self, counters: Counters, costs: StepTiming, parameter_count: int) -> str | None:
        """Return what the rest will take and buy, in a sentence; None if it is not the time to say it."""
        if self.meter.steps != FORECAST_STEPS or counters.step >= self.total_steps:
            return None
        left = self.total_steps - counters.step
        tokens = counters.tokens_seen / counters.step * self.total_steps
        seconds = costs.seconds(left, counters.step)
        when = f"{format_duration(seconds)} more for {left:,} steps ({costs.step_s:.3g} s a step"
        when += f", {costs.evaluation_s:.3g} s an evaluation)" if costs.evaluation_s else ")"
        model = f"this {_amount(parameter_count)} model sees {_amount(tokens)} tokens"
        ratio = f"{tokens / max(1, parameter_count):.2g} for each parameter; {_COMPUTE_OPTIMAL}"
        if self._budget_s is None:
            return f"Forecast: {when}; {model} in {self.total_steps:,} steps ({ratio})."
        return (
            f"Forecast: {when}; in {format_duration(self._budget_s)} {model} in {self.total_steps:,} steps ({ratio})."
        )

    def _rescale(self, counters: Counters) -> None:
        """Plan for another budget than before, with the speed of the last plan."""
        assert self._budget_s is not None
        assert counters.time_plan
        per_step = counters.time_plan[-1][3]
        left = self._budget_s - counters.trained_s
        share = min(1.0, counters.trained_s / self._budget_s)
        last = counters.step + max(0, math.floor(left / max(per_step, 1e-9)))
        counters.time_plan = [*counters.time_plan, [counters.step, share, last, per_step]]

    def _plan_is_due(self, counters: Counters) -> bool:
        points = counters.time_plan or []
        if not points:
            return self.meter.steps >= _FIRST_LOOK
        if len(points) == 1 and self.meter.steps == FORECAST_STEPS:
            return True
        planned = max(point[1] for point in points)
        mark = next((mark for mark in _MARKS if mark > planned), math.inf)
        return self.meter.steps >= _FIRST_LOOK and self._share(counters) >= mark

    def _is_other_machine(self, counters: Counters, costs: StepTiming) -> bool:
        if not counters.time_plan or self.meter.steps != FORECAST_STEPS:
            return False
        return abs(costs.per_step_s / counters.time_plan[-1][3] - 1.0) > _OTHER_MACHINE

    def _is_late(self, counters: Counters, costs: StepTiming, elapsed: float) -> bool:
        """Whether what a session takes to begin moves the end: by the speed of the plan, a few steps say too little."""
        if self._budget_s is None or not counters.time_plan or self.meter.steps != _FIRST_LOOK:
            return False
        last, per_step = counters.time_plan[-1][2:4]
        end = elapsed + (last - counters.step) * per_step + costs.evaluation_s
        return bool(abs(end - self._budget_s) > _LATE * self._budget_s)

    def _blend_with_prior(self, costs: StepTiming, counters: Counters) -> StepTiming:
        """Return what a session that has measured few steps should expect: nearly what the last plan did."""
        if self.meter.steps >= FORECAST_STEPS or not counters.time_plan or costs.per_step_s <= 0:
            return costs
        planned, count = counters.time_plan[-1][3], self.meter.counted
        factor = (_TRUST * planned / costs.per_step_s + count) / (_TRUST + count)
        return replace(costs, step_s=costs.step_s * factor, other_s=costs.other_s * factor)

    def _share(self, counters: Counters) -> float:
        """Share of the schedule that is done; a budget given to a run in the middle begins a schedule."""
        if self._starts_anew and not counters.time_plan:
            return 0.0
        total = self.steps_of(counters)
        return schedule_step(counters.step, total, counters.time_plan) / total

    def _require_enough(self, elapsed: float, costs: StepTiming) -> None:
        assert self._budget_s is not None
        needed = elapsed + costs.evaluation_s + costs.step_s
        if self._budget_s < needed:
            raise TrainingError(
                f"training.max_hours is {self._budget_s / 3600:.3g} ({format_duration(self._budget_s)}); start and "
                f"{self.meter.steps} steps took {format_duration(elapsed)}, one evaluation takes "
                f"{format_duration(costs.evaluation_s)}.",
                f"A budget for at least one evaluation was expected: {format_duration(needed)}.",
                f"Set training.max_hours to {2 * needed / 3600:.2g} or more, or evaluate less with "
                "training.eval_batches and training.num_samples.",
            )


def _amount(count: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"
