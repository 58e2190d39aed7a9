"""Decide what a worker does next: start a new trial, resume a waiting one, wait for other workers, or stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.studies.tuning.paused_checkpoints import PausedCheckpoints
from transformer_foundry.core.studies.tuning.storage.trial_attributes import (
    DEFAULT_ATTR,
    GAINS_ATTR,
    RESTARTED_ATTR,
    TO_THE_END_ATTR,
    error_of,
    final_loss,
    is_paused,
    last_step,
    paused_at,
    seconds_of,
)
from transformer_foundry.core.studies.tuning.storage.trial_store import TrialStore
from transformer_foundry.core.studies.tuning.strategies.candidates import (
    candidates,
    categorical,
    encode,
    key_of,
    spread_out,
)
from transformer_foundry.core.studies.tuning.strategies.pause_resume import TrialHistory, select_next
from transformer_foundry.core.studies.tuning.strategies.pruners import pause_step
from transformer_foundry.core.studies.tuning.strategies.samplers import FINITE_ONLY, make_sampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

__all__ = ["Stop", "TrialJob", "TrialScheduler", "Wait"]

MAX_FIRST_TRIALS = 8
"""Spread-out configurations at the start of a long search; in a short one, half of the trials."""

MIN_FIRST_TRIALS = 3

PATIENCE = 8
"""Decisions in a row that must expect almost no gain before the search stops: a model of few points errs.

Of replayed searches that stopped after four, one in six had not come within 1 % of the best; after eight, one in 16."""

_SPENT = "the budget is spent"
_ALL_TRIED = "every configuration of the space was tried"

N_BEST = 5
"""Configurations near which new ones are sampled."""


@dataclass(frozen=True)
class TrialJob:
    """A trial to train, claimed for this worker.

    Attributes:
        trial: The trial.
        resume_step: Step at which it was paused; 0 starts it.
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


class TrialScheduler:
    """Decides for one worker. All its state is in the store, so that any worker can decide next.

    Args:
        store: The trials.
        checkpoints: Where paused trials keep their checkpoints.
    """

    def __init__(self, store: TrialStore, checkpoints: PausedCheckpoints) -> None:
        self._store, self._checkpoints = store, checkpoints
        self._space, self._options = store.space, store.options
        self._pauses = self._options.sampler == "pause_resume"
        self._pause_step = pause_step(self._options, self._space.largest("warmup_ratio", otherwise=0.0))
        n_first = min(MAX_FIRST_TRIALS, max(MIN_FIRST_TRIALS, self._options.n_trials // 2))
        self._first = spread_out(self._space, n_first, np.random.default_rng(self._options.seed))

    def next(self) -> TrialJob | Wait | Stop:
        """Return what to do now."""
        trials = self._trials()
        for trial in trials:
            if trial.state.name == "WAITING" and not (self._pauses and is_paused(trial)):
                return self._resume(trial) or Wait(is_lost_race=True)
        running = [trial for trial in trials if trial.state.name == "RUNNING"]
        decided = self._decide(trials, running)
        if decided is None:
            return Wait(is_lost_race=True)
        if isinstance(decided, Stop) and running:
            return Wait()
        if isinstance(decided, TrialJob) and self._affordable(self._trials()) < 0:
            # Another worker has decided at the same moment, and the budget does not pay for both.
            self._store.withdraw(decided.trial)
            return Wait()
        return decided

    def _trials(self) -> list[FrozenTrial]:
        """Return all trials except those that lost a race: failed without an error."""
        return [trial for trial in self._store.trials() if trial.state.name != "FAIL" or error_of(trial)]

    def _decide(self, trials: Sequence[FrozenTrial], running: Sequence[FrozenTrial]) -> TrialJob | Wait | Stop | None:
        affordable = self._affordable(trials)
        if affordable <= 0:
            return Stop(_SPENT)
        hours = sum(seconds_of(trial) for trial in trials) / 3600
        if self._options.timeout_hours is not None and hours >= self._options.timeout_hours:
            return Stop(f"the trials have taken {hours:.2f} hours")
        default = self._space.first_configuration()
        if default and not any(trial.user_attrs.get(DEFAULT_ATTR) for trial in trials):
            return self._start(default, to_the_end=True, **{DEFAULT_ATTR: True})
        if not self._pauses:
            return self._ask(trials)
        return self._select(trials, running, affordable)

    def _select(
        self, trials: Sequence[FrozenTrial], running: Sequence[FrozenTrial], affordable: float
    ) -> TrialJob | Wait | Stop | None:
        tried = {key_of(trial.params) for trial in trials}
        first = [configuration for configuration in self._first if key_of(configuration) not in tried]
        if first and affordable >= 1:
            return self._start(first[0], to_the_end=False)
        histories = [self._history(trial) for trial in trials]
        if not any(history.losses for history in histories):
            return Wait() if running else Stop("no configuration is left to try")
        turn = self._turn(trials)
        rng = np.random.default_rng([self._options.seed, turn])
        new = candidates(self._space, [trial.params for trial in trials], _best(trials), rng)
        decision = select_next(
            histories,
            encode(self._space, new),
            categorical(self._space),
            affordable=affordable,
            rng=rng,
        )
        if decision is None:
            return Stop(_SPENT if new else _ALL_TRIED)
        gains = [*_gains(trials), decision.gain]
        if len(gains) >= PATIENCE and max(gains[-PATIENCE:]) < self._options.min_gain:
            return Stop(f"no training is expected to lower the best loss by {100 * self._options.min_gain:g} %")
        gain = [[turn, decision.gain]]
        if decision.is_new:
            return self._start(new[decision.index], to_the_end=False, **{GAINS_ATTR: gain})
        resumed = trials[decision.index]
        job = self._resume(resumed)
        if job is not None:
            job.trial.set_user_attr(GAINS_ATTR, resumed.user_attrs.get(GAINS_ATTR, []) + gain)
        return job

    def _start(self, configuration: dict[str, Any], *, to_the_end: bool, **attributes: Any) -> TrialJob | None:
        trial = self._store.start(configuration, **{TO_THE_END_ATTR: to_the_end}, **attributes)
        if trial is None:
            return None
        return TrialJob(trial, pause_at=None if to_the_end or not self._pauses else self._pause_step)

    def _resume(self, trial: FrozenTrial) -> TrialJob | None:
        claimed, step = self._store.claim(trial), paused_at(trial)
        if claimed is None:
            return None
        if step is not None:
            return TrialJob(claimed, resume_step=step)
        to_the_end = trial.user_attrs.get(TO_THE_END_ATTR) or not self._pauses
        return TrialJob(claimed, pause_at=None if to_the_end else self._pause_step)

    def _ask(self, trials: Sequence[FrozenTrial]) -> TrialJob | Stop:
        if self._options.sampler in FINITE_ONLY and not candidates(
            self._space, [trial.params for trial in trials], [], np.random.default_rng(0)
        ):
            return Stop(_ALL_TRIED)
        self._store.study.sampler = make_sampler(self._options, self._space, len(trials))
        return TrialJob(self._store.ask())

    def _affordable(self, trials: Sequence[FrozenTrial]) -> float:
        """Return how many full trainings the budget still pays for, less those in progress."""
        if not self._pauses:
            started = sum(trial.state.name != "WAITING" for trial in trials)
            return float(self._options.n_trials - started)
        steps = sum(self._steps_planned(trial) + int(trial.user_attrs.get(RESTARTED_ATTR, 0)) for trial in trials)
        return float(self._options.n_trials - steps / self._options.max_steps)

    def _steps_planned(self, trial: FrozenTrial) -> int:
        step = paused_at(trial)
        if trial.state.name == "WAITING":
            return step or 0
        if error_of(trial):
            # However fast it failed or diverged: with a budget that this does not reduce, the search might never end.
            return max(last_step(trial), self._pause_step)
        if trial.state.name != "RUNNING":
            return last_step(trial)
        is_first_half = step is None and not trial.user_attrs.get(TO_THE_END_ATTR)
        return self._pause_step if is_first_half else self._options.max_steps

    def _history(self, trial: FrozenTrial) -> TrialHistory:
        steps = self._options.max_steps
        features = encode(self._space, [trial.params])[0]
        if trial.state.name == "FAIL" or error_of(trial):
            # Bad at its end too: half time alone would leave room for hope, and for more trials beside it.
            bad = float("inf")
            return TrialHistory(features, ((self._pause_step / steps, bad), (1.0, bad)), left=0, is_open=False)
        # Of a curve only the losses at the pause and at the end count: earlier ones mislead.
        curve = sorted(trial.intermediate_values.items())
        at_pause = next(((step, loss) for step, loss in curve if step >= self._pause_step), None)
        losses = [at_pause] if at_pause and at_pause[0] < steps else []
        if trial.state.name == "PRUNED" and not losses:
            losses = curve[-1:]
        if (final := final_loss(trial)) is not None:
            losses.append((steps, final))
        shares = tuple((step / steps, loss) for step, loss in losses)
        if not is_paused(trial):
            return TrialHistory(features, shares, left=1.0 if trial.state.name == "RUNNING" else 0.0, is_open=False)
        resumable_step = (paused_at(trial) or 0) if self._checkpoints.has(trial.number) else 0
        return TrialHistory(features, shares, left=1 - resumable_step / steps, is_open=True)

    def _turn(self, trials: Sequence[FrozenTrial]) -> int:
        """Return the number of this decision among those of the model; random numbers depend on nothing else."""
        started = sum(not trial.user_attrs.get(DEFAULT_ATTR) for trial in trials) - len(self._first)
        resumed = sum(paused_at(trial) is not None and not is_paused(trial) for trial in trials)
        return 1 + max(0, started) + resumed


def _gains(trials: Sequence[FrozenTrial]) -> list[float]:
    """Return the gains that the decisions so far expected, in their order."""
    return [gain for _, gain in sorted(entry for trial in trials for entry in trial.user_attrs.get(GAINS_ATTR, []))]


def _best(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Return the best configurations of the complete and of the paused trials."""
    complete = sorted((trial for trial in trials if trial.state.name == "COMPLETE"), key=lambda trial: trial.value or 0)
    paused = sorted(
        (trial for trial in trials if is_paused(trial) and trial.intermediate_values),
        key=lambda trial: trial.intermediate_values[last_step(trial)],
    )
    return [trial.params for trial in (*complete[:N_BEST], *paused[: N_BEST - 2])]
