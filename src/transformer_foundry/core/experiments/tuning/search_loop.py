"""The search: train what the planner says, tell the storage; one record for each trial that has ended.

It knows no model: ``train_trial`` is any generator of validation losses, so a table of learning curves can stand in
for training. The study in the storage is the only state, and every step of it is written before it is acted on: a
search that is killed at any moment goes on from the storage, and several may work on one study.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Protocol

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.experiments.tuning import trials as names
from transformer_foundry.core.experiments.tuning.options import TuningOptions
from transformer_foundry.core.experiments.tuning.paused_checkpoints import MemoryStates, TrialStates
from transformer_foundry.core.experiments.tuning.results.trial_result import TrialRecord, record_of, state_of
from transformer_foundry.core.experiments.tuning.scheduler import Assignment, Planner, Stop, Wait
from transformer_foundry.core.experiments.tuning.space import SearchSpace
from transformer_foundry.core.experiments.tuning.storage import STUDY_NAME, explain_errors, quiet_optuna, sign_of_life
from transformer_foundry.core.experiments.tuning.strategies.pruners import make_pruner
from transformer_foundry.core.experiments.tuning.strategies.samplers import check_sampler
from transformer_foundry.core.experiments.tuning.study_identity import describe_search, refuse_differences
from transformer_foundry.core.experiments.tuning.trials import Ledger

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["STOPPED", "TrainTrial", "search"]

STOPPED = "stopped"
"""Attribute of the study: why the newest search ended."""

FAILURES_BEFORE_GIVING_UP = 3
"""When the first trials fail one and all, the cause is the set-up and not the configurations."""

POLL_S = 0.5
"""Pause between two looks at trials that other workers, or a dead one, still hold."""


class TrainTrial(Protocol):
    """Trains one configuration."""

    def __call__(
        self, parameters: Mapping[str, Any], resume_from: Any = None
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield (step, validation loss) at each evaluation, steps ascending; the last pair is the result.

        A third element, where there is one, is the state to go on from that step with. It is only wanted at the step
        where trials pause (``pruning.pause_step``); without one the state is the step itself.

        Args:
            parameters: The configuration: name -> value.
            resume_from: The state to go on from; None starts.
        """


def search(
    space: SearchSpace,
    train_trial: TrainTrial,
    options: TuningOptions,
    storage: BaseStorage,
    *,
    identity: Mapping[str, Any] | None = None,
    states: TrialStates | None = None,
    study_name: str = STUDY_NAME,
) -> Iterator[TrialRecord]:
    """Search ``space`` for the configuration with the lowest validation loss, until the budget is spent.

    The default configuration is trained first. Trials that earlier sessions finished count, those they paused go on,
    and those they were killed in are trained again. A trial whose training raises is a record too, and so is one whose
    loss stops being finite (pruned). Why the search ended is the study's user attribute ``stopped``.

    Args:
        space: What is searched.
        train_trial: Trains one configuration.
        options: Budget, strategy and its settings.
        storage: Where the study is kept; see ``storage.open_storage``. Several searches, on several machines, may
            share it.
        identity: What the trials' losses depend on beside the configuration, JSON-able: model, data, seed.
        states: Where the states of paused trials are kept; None keeps them in memory.
        study_name: Name of the study in the storage.

    Yields:
        One record for each trial that has ended, after the storage has it.

    Raises:
        TuningError: If the stored study searched another space, other settings or another ``identity``, if the storage
            fails, or if the first trials all fail.
    """
    check_sampler(options, space)
    states = MemoryStates() if states is None else states
    with explain_errors(storage):
        study = _open_study(space, options, storage, identity or {}, study_name)
    ledger = Ledger(study, space, options)
    planner = Planner(ledger, states)
    for trial in ledger.trials("COMPLETE", "PRUNED", "FAIL"):
        # Of trials that were given up, or whose worker was killed before it could delete them.
        states.drop(trial.number)
    while True:
        with explain_errors(storage):
            ledger.recover()
            plan = planner.next()
            if isinstance(plan, Stop):
                study.set_user_attr(STOPPED, plan.reason)
                _require_result(ledger.finished())
                return
        if isinstance(plan, Wait):
            time.sleep(0.0 if plan.is_lost_race else POLL_S)
            continue
        with explain_errors(storage):
            ended = _Training(ledger, states, plan).run(train_trial)
        if ended is None:
            continue
        finished = ledger.finished()
        yield record_of(ended, [other for other in finished if other.number != ended.number])
        _stop_if_all_fail(finished, options)


def _open_study(
    space: SearchSpace, options: TuningOptions, storage: BaseStorage, identity: Mapping[str, Any], name: str
) -> Study:
    import optuna

    pruner: Any = make_pruner(options, space.largest("warmup_ratio", otherwise=0.0))
    with quiet_optuna():
        study = optuna.create_study(
            study_name=name, storage=storage, pruner=pruner, direction="minimize", load_if_exists=True
        )
    refuse_differences(study, describe_search(space, options, identity))
    return study


class _Training:
    """One session of a trial, from where it begins to where it is paused or ends."""

    def __init__(self, ledger: Ledger, states: TrialStates, plan: Assignment) -> None:
        self._ledger, self._states, self._plan, self._trial = ledger, states, plan, plan.trial
        self._began = time.monotonic()
        self._resume_from = states.get(self._trial.number) if plan.resume_step else None
        self._first_step = self._step = plan.resume_step if self._resume_from is not None else 0
        self._last_step = ledger.options.max_steps
        self._reported = set(ledger.study._storage.get_trial(self._trial._trial_id).intermediate_values)

    def run(self, train_trial: TrainTrial) -> FrozenTrial | None:
        """Train; return the trial if it has ended, None if it was paused or another worker has ended it."""
        from optuna.exceptions import UpdateFinishedTrialError

        self._note_restart()
        try:
            with (
                sign_of_life(self._ledger.study._storage, self._trial._trial_id),
                closing(train_trial(self._trial.params, self._resume_from)) as reports,
            ):
                state, loss, detail = self._follow(reports)
            self._note_session()
            if state == "PAUSED":
                self._pause(detail)
                return None
            ended = self._ledger.end(self._trial, state, loss, detail)
        except UpdateFinishedTrialError:
            return None
        except BaseException:  # interrupted, or the storage failed; it is raised again
            # Back into the queue at once, if that is still possible.
            with suppress(UpdateFinishedTrialError):
                self._note_session()
                self._ledger.release(self._trial._trial_id)
            raise
        self._states.drop(self._trial.number)
        return ended

    def _follow(self, reports: Iterator[tuple[Any, ...]]) -> tuple[str, float | None, Any]:
        """Report each loss until the trial ends or is paused: (state, loss, error or state to go on from)."""
        loss: float | None = None
        while True:
            try:
                report = next(reports, None)
            except Exception as err:  # The model of a trial may raise anything; that is a result, with its cause kept.
                return "FAIL", None, f"{type(err).__name__}: {' '.join(str(err).split())}"
            if report is None:
                break
            self._step, loss = int(report[0]), float(report[1])
            if self._step not in self._reported:
                self._trial.report(loss, self._step)
            if not math.isfinite(loss):
                # Pruned rather than failed: samplers ignore failed trials and would propose the same again.
                return "PRUNED", None, f"the validation loss is {loss} at step {self._step}"
            if self._is_pause_due():
                return "PAUSED", loss, report[2] if len(report) > 2 else self._step
            if self._prunes() and self._trial.should_prune():
                return "PRUNED", loss, None
        if loss is None:
            return "FAIL", None, "the trial reported no validation loss"
        return "COMPLETE", loss, None

    def _is_pause_due(self) -> bool:
        pause_at = self._plan.pause_at
        return pause_at is not None and pause_at <= self._step < self._last_step

    def _prunes(self) -> bool:
        return self._ledger.options.sampler != "pause_resume"

    def _pause(self, state: Any) -> None:
        number = self._trial.number
        self._states.keep(number, state)
        self._ledger.pause(self._trial, self._step)
        paused = [trial for trial in self._ledger.trials() if names.is_paused(trial)]
        paused.sort(key=lambda trial: trial.intermediate_values[names.last_step(trial)])
        self._states.trim([trial.number for trial in paused])

    def _note_restart(self) -> None:
        if self._plan.resume_step and self._resume_from is None:
            restarted = self._trial.user_attrs.get(names.RESTARTED, 0) + self._plan.resume_step
            self._trial.set_user_attr(names.RESTARTED, restarted)

    def _note_session(self) -> None:
        seconds = time.monotonic() - self._began
        self._ledger.note_session(self._trial._trial_id, self._first_step, self._step, seconds)


def _require_result(finished: Sequence[FrozenTrial]) -> None:
    failed = [trial for trial in finished if state_of(trial) == "failed"]
    if finished and len(failed) == len(finished):
        raise _all_failed(failed)


def _stop_if_all_fail(finished: Sequence[FrozenTrial], options: TuningOptions) -> None:
    if len(finished) >= min(FAILURES_BEFORE_GIVING_UP, options.n_trials):
        _require_result(finished)


def _all_failed(failed: Sequence[FrozenTrial]) -> TuningError:
    first = min(failed, key=lambda trial: trial.number)
    return TuningError(
        f"All {len(failed)} trials of the search failed; the first with {first.user_attrs[names.ERROR]}",
        "Expected at least one configuration that trains.",
        "Train the default configuration alone: kedro run --pipelines training.",
    )
