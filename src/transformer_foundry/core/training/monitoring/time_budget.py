"""The time of a run: how long it takes, and how many steps fit into ``training.max_hours``.

The plan of a run with ``max_hours`` is a list of ``PlannedEnd`` points. Between two points the done share of the
learning-rate schedule grows evenly with the steps, so that the learning rate is a function of the step and of the
points, which a checkpoint keeps: an interruption between two points changes no bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.base.text import format_duration
from transformer_foundry.core.system.distributed import SINGLE_PROCESS, ProcessGroup
from transformer_foundry.core.training.checkpointing.state import PlannedEnd, TimePlan, TrainingState
from transformer_foundry.core.training.monitoring.step_timing import (
    FORECAST_STEPS,
    StepTimer,
    StepTiming,
    steps_within,
)

__all__ = ["TimeBudget", "schedule_step", "starting_time_plan"]

_FIRST_PLAN_STEPS = 3
"""Steps before the first plan."""

_REPLAN_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of the schedule at which the steps are planned anew: an error of the last plan changes at most 2 %."""

_OTHER_MACHINE = 0.1
"""A session whose steps are this share slower or faster than planned plans anew after ``FORECAST_STEPS``."""

_LATE = 0.01
"""A session that would end this share of the budget too late or too early (because of loading, compiling, a slow first
step) plans anew after its first steps."""

_PRIOR_STEPS = 5
"""The speed of earlier sessions counts like so many steps of this one, until ``FORECAST_STEPS`` are measured."""

_PLACEHOLDER_STEPS = 100
_COMPUTE_OPTIMAL = "about 20 is best for the compute spent, Hoffmann et al. 2022"


def schedule_step(step: int, total_steps: int, points: Sequence[PlannedEnd] = ()) -> float:
    """Return the place of ``step`` on a schedule of ``total_steps``; it need not be a whole number.

    Example:
        >>> schedule_step(50, 100)
        50
        >>> schedule_step(60, 70, [PlannedEnd(50, 0.5, 70, 0.1)])  # half the schedule in 50 steps, the rest in 20
        52.5
    """
    passed = [point for point in points if point.step <= step]
    if not passed:
        return step
    newest = passed[-1]
    progress = min(1.0, (step - newest.step) / max(1.0, newest.last_step - newest.step))
    return (newest.share + (1.0 - newest.share) * progress) * total_steps


def starting_time_plan(max_hours: float | None, resumed: TrainingState | None) -> TimePlan:
    """Return the time plan that a session starts with.

    It is that of the resumed run, rescaled if ``training.max_hours`` has changed. A fork has a budget of its own.
    """
    if max_hours is None or resumed is None or resumed.forked_from:
        return TimePlan()
    plan = resumed.time_plan.copy()
    if plan.points and resumed.options.get("max_hours") != max_hours:
        plan.points = (*plan.points, _rescale(plan, max_hours * 3600, resumed.step))
    return plan


def _rescale(plan: TimePlan, budget_s: float, step: int) -> PlannedEnd:
    """Return the end within another budget, at the speed of the last plan."""
    step_s = plan.points[-1].step_s
    share = min(1.0, plan.trained_s / budget_s)
    left = max(0, math.floor((budget_s - plan.trained_s) / max(step_s, 1e-9)))
    return PlannedEnd(step, share, step + left, step_s)


class TimeBudget:
    """Measures a session, forecasts its end, and plans the steps of a run with ``training.max_hours``.

    Args:
        max_hours: Hours of the whole run; None if its steps are given.
        plan: Time and plan of earlier sessions; see ``starting_time_plan``.
        step: Step that the session starts from.
        planned_steps: Steps of a run without ``max_hours``.
        timer: Measures the steps.
        closing_evaluations: What follows training, as a number of evaluations, whose time is set aside.
        processes: The processes that must agree.

    Attributes:
        timer: Measures the steps.
    """

    def __init__(
        self,
        max_hours: float | None,
        plan: TimePlan,
        *,
        step: int,
        planned_steps: int,
        timer: StepTimer,
        closing_evaluations: float = 0.0,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.timer, self._closing_evaluations = timer, closing_evaluations
        self._plan, self._processes = plan, processes
        self._budget_s = None if max_hours is None else max_hours * 3600
        self._start, self._earlier_s = time.monotonic(), plan.trained_s
        self._starts_schedule = step > 0 and not plan.points
        self._steps_before_plan = planned_steps if max_hours is None else max(planned_steps, step + _PLACEHOLDER_STEPS)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run as planned now."""
        return int(self._plan.points[-1].last_step) if self._plan.points else self._steps_before_plan

    @property
    def has_plan(self) -> bool:
        """Whether the steps were planned from measured speed."""
        return bool(self._plan.points)

    def schedule_step(self, step: int) -> float:
        """Return the place of ``step`` on the learning-rate schedule of ``total_steps``."""
        return schedule_step(step, self.total_steps, self._plan.points)

    def elapsed_s(self) -> float:
        """Return the seconds of this run that count against its budget, including earlier sessions."""
        return self._earlier_s + time.monotonic() - self._start

    def left_s(self) -> float | None:
        """Return the seconds of the budget that are left; None without a budget."""
        return None if self._budget_s is None else max(0.0, self._budget_s - self.elapsed_s())

    def capture_plan(self) -> TimePlan:
        """Return a copy of the plan with the time until now, for a checkpoint."""
        return TimePlan(0.0 if self._budget_s is None else self.elapsed_s(), self._plan.points)

    def restore_points(self, saved: TimePlan) -> None:
        """Go back to the points of a checkpoint; the elapsed time stays."""
        self._plan.points = saved.points

    def should_replan(self, step: int) -> bool:
        """Return whether ``replan`` is due after ``step``: for the forecast, or for a plan."""
        if self.timer.steps == FORECAST_STEPS:
            return True
        return self._budget_s is not None and (self.timer.steps == _FIRST_PLAN_STEPS or self._plan_is_due(step))

    def replan(self, step: int) -> StepTiming:
        """Return the duration of the steps of this session, and plan the rest of the run anew if that is due.

        Raises:
            TrainingError: If the budget is too small for one evaluation.
        """
        measured = self._blend_with_prior(self.timer.timing())
        timing, elapsed = self._processes.all_gather((measured, self.elapsed_s()))[0]
        if self._budget_s is not None and (
            self._plan_is_due(step) or self._is_other_machine(timing) or self._is_late(step, timing, elapsed)
        ):
            if not self._plan.points:
                self._require_enough(self._budget_s, elapsed, timing)
            last = step + steps_within(self._budget_s - elapsed - self._closing_s(timing), timing, step)
            point = PlannedEnd(step, self._done_share(step), last, timing.per_step_s)
            self._plan.points = (*self._plan.points, point)
        return timing

    def forecast(self, step: int, timing: StepTiming, *, tokens_seen: int, parameter_count: int) -> str | None:
        """Return a sentence with duration, tokens and steps of the rest; None except after ``FORECAST_STEPS``."""
        if self.timer.steps != FORECAST_STEPS or step >= self.total_steps:
            return None
        left = self.total_steps - step
        tokens = tokens_seen / step * self.total_steps
        when = f"{format_duration(timing.seconds(left, step))} more for {left:,} steps ({timing.step_s:.3g} s a step"
        when += f", {timing.evaluation_s:.3g} s an evaluation)" if timing.evaluation_s else ")"
        within = "" if self._budget_s is None else f"in {format_duration(self._budget_s)} "
        model = f"{within}this {_amount(parameter_count)} model sees {_amount(tokens)} tokens"
        ratio = f"{tokens / max(1, parameter_count):.2g} for each parameter; {_COMPUTE_OPTIMAL}"
        closing_s = self._closing_s(timing)
        then = f" Then up to {format_duration(closing_s)} for the final evaluation." if closing_s else ""
        return f"Forecast: {when}; {model} in {self.total_steps:,} steps ({ratio}).{then}"

    def _closing_s(self, timing: StepTiming) -> float:
        return self._closing_evaluations * timing.evaluation_s

    def _plan_is_due(self, step: int) -> bool:
        points = self._plan.points
        if not points:
            return self.timer.steps >= _FIRST_PLAN_STEPS
        if len(points) == 1 and self.timer.steps == FORECAST_STEPS:
            return True
        planned = max(point.share for point in points)
        due = next((share for share in _REPLAN_SHARES if share > planned), math.inf)
        return self.timer.steps >= _FIRST_PLAN_STEPS and self._done_share(step) >= due

    def _is_other_machine(self, timing: StepTiming) -> bool:
        if not self._plan.points or self.timer.steps != FORECAST_STEPS:
            return False
        return abs(timing.per_step_s / self._plan.points[-1].step_s - 1.0) > _OTHER_MACHINE

    def _is_late(self, step: int, timing: StepTiming, elapsed: float) -> bool:
        """Whether the start of a session moves the end, at the planned speed: that of a few steps is too uncertain."""
        if self._budget_s is None or not self._plan.points or self.timer.steps != _FIRST_PLAN_STEPS:
            return False
        planned = self._plan.points[-1]
        end = elapsed + (planned.last_step - step) * planned.step_s + timing.evaluation_s + self._closing_s(timing)
        return bool(abs(end - self._budget_s) > _LATE * self._budget_s)

    def _blend_with_prior(self, timing: StepTiming) -> StepTiming:
        """Return the expected timing: that of the last plan, with a weight that falls with each measured step."""
        if self.timer.steps >= FORECAST_STEPS or not self._plan.points or timing.per_step_s <= 0:
            return timing
        planned, count = self._plan.points[-1].step_s, self.timer.counted
        factor = (_PRIOR_STEPS * planned / timing.per_step_s + count) / (_PRIOR_STEPS + count)
        return replace(timing, step_s=timing.step_s * factor, other_s=timing.other_s * factor)

    def _done_share(self, step: int) -> float:
        """Share of the schedule that is done; a budget that is given in the middle of a run starts a schedule."""
        if self._starts_schedule and not self._plan.points:
            return 0.0
        return self.schedule_step(step) / self.total_steps

    def _require_enough(self, budget_s: float, elapsed: float, timing: StepTiming) -> None:
        closing_s = self._closing_s(timing)
        needed = elapsed + timing.evaluation_s + timing.step_s + closing_s
        if budget_s < needed:
            raise TrainingError(
                f"training.max_hours is {budget_s / 3600:.3g} ({format_duration(budget_s)}); start and "
                f"{self.timer.steps} steps took {format_duration(elapsed)}, one evaluation takes "
                f"{format_duration(timing.evaluation_s)}"
                + (f", the final one up to {format_duration(closing_s)}." if closing_s else "."),
                f"A budget for at least one evaluation was expected: {format_duration(needed)}.",
                f"Set training.max_hours to {2 * needed / 3600:.2g} or more, or evaluate less with "
                "training.eval_batches and training.num_samples.",
            )


def _amount(count: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"
