"""What a worker does next: train a new configuration, go on with a waiting one, wait for others, or stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.experiments.tuning import trials as names
from transformer_foundry.core.experiments.tuning.paused_checkpoints import TrialStates
from transformer_foundry.core.experiments.tuning.strategies.candidates import (
    candidates,
    categorical,
    encode,
    key_of,
    spread_out,
)
from transformer_foundry.core.experiments.tuning.strategies.pause_resume import Known, choose
from transformer_foundry.core.experiments.tuning.strategies.pruners import pause_step
from transformer_foundry.core.experiments.tuning.strategies.samplers import FINITE_ONLY, make_sampler
from transformer_foundry.core.experiments.tuning.trials import Ledger, is_paused, last_step, seconds_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

__all__ = ["Assignment", "Planner", "Stop", "Wait"]

MOST_FIRST_TRIALS = 8
"""Spread-out configurations that a long search begins with; half of the trials in a short one."""

FEWEST_FIRST_TRIALS = 3

PATIENCE = 8
"""Decisions in a row that must expect next to no gain before the search stops: a model of few points errs.

Of replayed searches that stopped after four, one in six had not come within 1 % of the best; after eight, one in 16."""

_SPENT = "the budget is spent"
_TRIED_OUT = "every configuration of the space was tried"

N_BEST = 5
"""Configurations near which new ones are looked for."""


@dataclass(frozen=True)
class Assignment:
    """A trial to train, claimed for this worker.

    Attributes:
        trial: The trial.
        resume_step: Step at which it was paused; 0 begins.
        pause_at: Step at which to pause it; None trains to the end.
    """

    trial: Trial
    resume_step: int = 0
    pause_at: int | None = None


@dataclass(frozen=True)
class Wait:
    """Another worker holds what is left to do, or was faster."""

    is_lost_race: bool = False


@dataclass(frozen=True)
class Stop:
    """The search is over, and why."""

    reason: str


class Planner:
    """Decides for one worker; all it knows comes from the ledger, so any worker may decide next.

    Args:
        ledger: The trials.
        states: What paused trials go on from.
    """

    def __init__(self, ledger: Ledger, states: TrialStates) -> None:
        self._ledger, self._states = ledger, states
        self._space, self._options = ledger.space, ledger.options
        self._pauses = self._options.sampler == "pause_resume"
        self._pause_step = pause_step(self._options, self._space.largest("warmup_ratio", otherwise=0.0))
        n_first = min(MOST_FIRST_TRIALS, max(FEWEST_FIRST_TRIALS, self._options.n_trials // 2))
        self._first = spread_out(self._space, n_first, np.random.default_rng(self._options.seed))

    def next(self) -> Assignment | Wait | Stop:
        """Return what to do now."""
        trials = self._trials()
        for trial in trials:
            if trial.state.name == "WAITING" and not (self._pauses and is_paused(trial)):
                return self._go_on(trial) or Wait(is_lost_race=True)
        running = [trial for trial in trials if trial.state.name == "RUNNING"]
        found = self._plan(trials, running)
        if found is None:
            return Wait(is_lost_race=True)
        if isinstance(found, Stop) and running:
            return Wait()
        if isinstance(found, Assignment) and self._affordable(self._trials()) < 0:
            # Another worker has decided at the same moment, and the budget does not pay both.
            self._ledger.withdraw(found.trial)
            return Wait()
        return found

    def _trials(self) -> list[FrozenTrial]:
        return [trial for trial in self._ledger.trials() if _counts(trial)]

    def _plan(self, trials: Sequence[FrozenTrial], running: Sequence[FrozenTrial]) -> Assignment | Wait | Stop | None:
        affordable = self._affordable(trials)
        if affordable <= 0:
            return Stop(_SPENT)
        hours = sum(seconds_of(trial) for trial in trials) / 3600
        if self._options.timeout_hours is not None and hours >= self._options.timeout_hours:
            return Stop(f"the trials have taken {hours:.2f} hours")
        default = self._space.first_configuration()
        if default and not any(trial.user_attrs.get(names.DEFAULT) for trial in trials):
            return self._begin(default, to_the_end=True, **{names.DEFAULT: True})
        if not self._pauses:
            return self._ask(trials)
        return self._choose(trials, running, affordable)

    def _choose(
        self, trials: Sequence[FrozenTrial], running: Sequence[FrozenTrial], affordable: float
    ) -> Assignment | Wait | Stop | None:
        tried = {key_of(trial.params) for trial in trials}
        first = [configuration for configuration in self._first if key_of(configuration) not in tried]
        if first and affordable >= 1:
            return self._begin(first[0], to_the_end=False)
        known = {trial.number: self._known(trial) for trial in trials}
        if not any(entry.losses for entry in known.values()):
            return Wait() if running else Stop("no configuration is left to try")
        turn = self._turn(trials)
        rng = np.random.default_rng([self._options.seed, turn])
        fresh = candidates(self._space, [trial.params for trial in trials], _best(trials), rng)
        choice = choose(
            list(known.values()),
            encode(self._space, fresh),
            categorical(self._space),
            affordable=affordable,
            rng=rng,
        )
        if choice is None:
            return Stop(_SPENT if fresh else _TRIED_OUT)
        gains = [*_gains(trials), choice.gain]
        if len(gains) >= PATIENCE and max(gains[-PATIENCE:]) < self._options.min_gain:
            return Stop(f"no training is expected to lower the best loss by {100 * self._options.min_gain:g} %")
        gain = {names.GAIN: [[turn, choice.gain]]}
        if choice.is_new:
            return self._begin(fresh[choice.index], to_the_end=False, **gain)
        resumed = trials[choice.index]
        assignment = self._go_on(resumed)
        if assignment is not None:
            assignment.trial.set_user_attr(names.GAIN, resumed.user_attrs.get(names.GAIN, []) + gain[names.GAIN])
        return assignment

    def _begin(self, configuration: dict[str, Any], *, to_the_end: bool, **attributes: Any) -> Assignment | None:
        trial = self._ledger.begin(configuration, **{names.STRAIGHT: to_the_end}, **attributes)
        return trial and Assignment(trial, pause_at=None if to_the_end or not self._pauses else self._pause_step)

    def _go_on(self, trial: FrozenTrial) -> Assignment | None:
        claimed = self._ledger.claim(trial)
        if claimed is None:
            return None
        paused_at = trial.user_attrs.get(names.PAUSED_AT)
        if paused_at is not None:
            return Assignment(claimed, resume_step=paused_at)
        is_straight = trial.user_attrs.get(names.STRAIGHT) or not self._pauses
        return Assignment(claimed, pause_at=None if is_straight else self._pause_step)

    def _ask(self, trials: Sequence[FrozenTrial]) -> Assignment | Stop:
        if self._options.sampler in FINITE_ONLY and not candidates(
            self._space, [trial.params for trial in trials], [], np.random.default_rng(0)
        ):
            return Stop(_TRIED_OUT)
        self._ledger.study.sampler = make_sampler(self._options, self._space, len(trials))
        return Assignment(self._ledger.ask())

    def _affordable(self, trials: Sequence[FrozenTrial]) -> float:
        """Full trainings that the budget still pays, those under way taken off."""
        if not self._pauses:
            return self._options.n_trials - sum(trial.state.name != "WAITING" for trial in trials)
        steps = sum(self._steps_planned(trial) + trial.user_attrs.get(names.RESTARTED, 0) for trial in trials)
        return (self._options.n_trials * self._options.max_steps - steps) / self._options.max_steps

    def _steps_planned(self, trial: FrozenTrial) -> int:
        paused_at = trial.user_attrs.get(names.PAUSED_AT)
        if trial.state.name == "WAITING":
            return paused_at or 0
        if trial.user_attrs.get(names.ERROR):
            # However fast it failed or diverged: a budget that this does not touch might never end.
            return max(last_step(trial), self._pause_step)
        if trial.state.name != "RUNNING":
            return last_step(trial)
        is_first_half = paused_at is None and not trial.user_attrs.get(names.STRAIGHT)
        return self._pause_step if is_first_half else self._options.max_steps

    def _known(self, trial: FrozenTrial) -> Known:
        steps = self._options.max_steps
        features = encode(self._space, [trial.params])[0]
        if trial.state.name == "FAIL" or trial.user_attrs.get(names.ERROR):
            # Bad at its end too: half time alone would leave room for hope, and for more trials beside it.
            bad = float("inf")
            return Known(features, ((self._pause_step / steps, bad), (1.0, bad)), left=0, is_open=False)
        # Of a curve only the losses at the pause and at the end count: earlier ones mislead.
        curve = sorted(trial.intermediate_values.items())
        seen = next(((step, loss) for step, loss in curve if step >= self._pause_step), None)
        losses = [seen] if seen and seen[0] < steps else []
        if trial.state.name == "PRUNED" and not losses:
            losses = curve[-1:]
        if trial.state.name == "COMPLETE":
            losses.append((steps, float(trial.value)))
        shares = tuple((step / steps, loss) for step, loss in losses)
        if not is_paused(trial):
            return Known(features, shares, left=1.0 if trial.state.name == "RUNNING" else 0.0, is_open=False)
        return Known(features, shares, left=1 - self._resumable_step(trial) / steps, is_open=True)

    def _resumable_step(self, trial: FrozenTrial) -> int:
        return int(trial.user_attrs[names.PAUSED_AT]) if self._states.has(trial.number) else 0

    def _turn(self, trials: Sequence[FrozenTrial]) -> int:
        """Decisions made by the model so far, this one included; all that the random numbers depend on."""
        begun = sum(not trial.user_attrs.get(names.DEFAULT) for trial in trials) - len(self._first)
        resumed = sum(trial.user_attrs.get(names.PAUSED_AT) is not None and not is_paused(trial) for trial in trials)
        return 1 + max(0, begun) + resumed


def _counts(trial: FrozenTrial) -> bool:
    """Whether the trial is more than the trace of a lost race."""
    return trial.state.name != "FAIL" or bool(trial.user_attrs.get(names.ERROR))


def _gains(trials: Sequence[FrozenTrial]) -> list[float]:
    """Gains that the decisions so far expected, in their order."""
    return [gain for _, gain in sorted(entry for trial in trials for entry in trial.user_attrs.get(names.GAIN, []))]


def _best(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """The best of those that have ended and of those that are paused."""
    complete = sorted((trial for trial in trials if trial.state.name == "COMPLETE"), key=lambda trial: trial.value or 0)
    paused = sorted(
        (trial for trial in trials if is_paused(trial) and trial.intermediate_values),
        key=lambda trial: trial.intermediate_values[last_step(trial)],
    )
    return [trial.params for trial in (*complete[:N_BEST], *paused[: N_BEST - 2])]
