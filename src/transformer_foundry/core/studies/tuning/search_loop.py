"""Search a space: train what the scheduler decides, store each result, and yield one record for each finished trial.

The loop knows no model: ``train_trial`` is any generator of validation losses, so a table of learning curves can
replace training. The study in the storage is the only state, and each step is written before it is acted on. A search
that is killed at any moment continues from the storage, and several workers can share one study.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from transformer_foundry.core.base.errors import TuningError, error_message
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.paused_checkpoints import PausedCheckpoints
from transformer_foundry.core.studies.tuning.results.trial_result import TrialResult, result_of, state_of
from transformer_foundry.core.studies.tuning.scheduler import Stop, TrialJob, TrialScheduler, Wait
from transformer_foundry.core.studies.tuning.space import SearchSpace
from transformer_foundry.core.studies.tuning.storage.database import STOPPED, STUDY_NAME, explain_errors, heartbeat
from transformer_foundry.core.studies.tuning.storage.optuna_compat import ignore_experimental_warnings
from transformer_foundry.core.studies.tuning.storage.study_identity import describe_search, refuse_differences
from transformer_foundry.core.studies.tuning.storage.trial_attributes import (
    RESTARTED_ATTR,
    error_of,
    is_paused,
    last_step,
)
from transformer_foundry.core.studies.tuning.storage.trial_store import TrialStore
from transformer_foundry.core.studies.tuning.strategies.pruners import make_pruner
from transformer_foundry.core.studies.tuning.strategies.samplers import check_sampler

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["TrainTrial", "TrialReport", "search"]

FAILURES_BEFORE_GIVING_UP = 3
"""If all of the first trials fail, the cause is the set-up and not the configurations."""

POLL_S = 0.5
"""Pause between two looks at trials that other workers hold."""

TrialReport: TypeAlias = tuple[int, float] | tuple[int, float, Any]
"""Step, validation loss, and the state to resume from at this step, which only the step of a pause needs."""


class TrainTrial(Protocol):
    """Trains one configuration."""

    def __call__(self, parameters: Mapping[str, Any], resume_from: Any = None) -> Generator[TrialReport, None, None]:
        """Yield a report at each evaluation, steps ascending; the last loss is the result.

        Trials pause at ``pruners.pause_step``; without a state in that report the state is the step itself.

        Args:
            parameters: The configuration: name -> value.
            resume_from: The state to resume from; None starts.
        """


def search(
    space: SearchSpace,
    train_trial: TrainTrial,
    options: TuningOptions,
    storage: BaseStorage,
    *,
    identity: Mapping[str, Any] | None = None,
    checkpoints: PausedCheckpoints | None = None,
    study_name: str = STUDY_NAME,
    on_session: Callable[[], None] | None = None,
) -> Iterator[TrialResult]:
    """Search ``space`` for the configuration with the lowest validation loss until the budget is spent.

    The default configuration is trained first. Trials that earlier sessions finished count; paused ones can be resumed,
    and interrupted ones are trained again. A trial whose training raises is a result too, and so is one whose loss is
    no longer finite (pruned). The study's user attribute ``stopped`` says why the search ended.

    Args:
        space: What is searched.
        train_trial: Trains one configuration.
        options: Budget, strategy and its settings.
        storage: Where the study is stored; see ``storage.open_storage``. Several searches, on several machines, can
            share it.
        identity: What the losses depend on beside the configuration, JSON-able: model, data, seed.
        checkpoints: Where paused trials keep their checkpoints; None keeps them in memory.
        study_name: Name of the study in the storage.
        on_session: Called after each session of a trial, paused or ended, once it is stored.

    Yields:
        One result for each trial that has ended, after it is stored.

    Raises:
        TuningError: If the stored study searched another space, other settings or another ``identity``, if the storage
            fails, or if the first trials all fail.
    """
    check_sampler(options, space)
    checkpoints = PausedCheckpoints() if checkpoints is None else checkpoints
    with explain_errors(storage):
        study = _open_study(space, options, storage, identity or {}, study_name)
        store = TrialStore(study, storage, space, options)
    scheduler = TrialScheduler(store, checkpoints)
    for trial in store.trials("COMPLETE", "PRUNED", "FAIL"):
        # Left by trials that were given up, or by a worker that was killed before it could delete them.
        checkpoints.drop(trial.number)
    while True:
        with explain_errors(storage):
            store.recover()
            decided = scheduler.next()
            if isinstance(decided, Stop):
                study.set_user_attr(STOPPED, decided.reason)
                _require_result(store.finished())
                return
        if isinstance(decided, Wait):
            time.sleep(0.0 if decided.is_lost_race else POLL_S)
            continue
        with explain_errors(storage):
            if study.user_attrs.get(STOPPED):  # an ended search continues with a larger budget
                study.set_user_attr(STOPPED, "")
            ended = _Session(store, checkpoints, decided).run(train_trial)
        if on_session is not None:
            on_session()
        if ended is None:
            continue
        finished = store.finished()
        yield result_of(ended, [other for other in finished if other.number != ended.number])
        if len(finished) >= min(FAILURES_BEFORE_GIVING_UP, options.n_trials):
            _require_result(finished)


def _open_study(
    space: SearchSpace, options: TuningOptions, storage: BaseStorage, identity: Mapping[str, Any], name: str
) -> Study:
    import optuna

    pruner: Any = make_pruner(options, space.largest("warmup_ratio", otherwise=0.0))
    with ignore_experimental_warnings():
        study = optuna.create_study(
            study_name=name, storage=storage, pruner=pruner, direction="minimize", load_if_exists=True
        )
    refuse_differences(study, describe_search(space, options, identity))
    return study


class _Session:
    """One session of a trial, from where it starts to where it is paused or ends."""

    def __init__(self, store: TrialStore, checkpoints: PausedCheckpoints, job: TrialJob) -> None:
        self._store, self._checkpoints, self._job, self._trial = store, checkpoints, job, job.trial
        self._number = job.trial.number
        self._started = time.monotonic()
        self._resume_from = checkpoints.get(self._number) if job.resume_step else None
        self._first_step = self._step = job.resume_step if self._resume_from is not None else 0
        self._last_step = store.options.max_steps
        self._reported = set(store.stored(self._trial).intermediate_values)

    def run(self, train_trial: TrainTrial) -> FrozenTrial | None:
        """Train; return the trial if it has ended, None if it was paused or another worker has ended it."""
        from optuna.exceptions import UpdateFinishedTrialError

        self._record_restart()
        try:
            with (
                heartbeat(self._store.storage, self._store.id_of(self._trial)),
                closing(train_trial(self._trial.params, self._resume_from)) as reports,
            ):
                state, loss, detail = self._follow(reports)
            self._record_session()
            if state == "PAUSED":
                self._pause(detail)
                return None
            ended = self._store.finish(self._trial, state, loss, detail)
        except UpdateFinishedTrialError:
            return None
        except BaseException:  # interrupted, or the storage failed; it is raised again
            # Back into the queue at once, if that is still possible.
            with suppress(UpdateFinishedTrialError):
                self._record_session()
                self._store.release(self._trial)
            raise
        self._checkpoints.drop(self._number)
        return ended

    def _follow(self, reports: Iterator[TrialReport]) -> tuple[str, float | None, Any]:
        """Report each loss until the trial ends or is paused: (state, loss, error or state to resume from)."""
        loss: float | None = None
        while True:
            try:
                report = next(reports, None)
            except Exception as err:  # The model of a trial may raise anything; it is a result, with its cause.
                return "FAIL", None, f"{type(err).__name__}: {error_message(err)}"
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
            if self._store.options.sampler != "pause_resume" and self._trial.should_prune():
                return "PRUNED", loss, None
        if loss is None:
            return "FAIL", None, "the trial reported no validation loss"
        return "COMPLETE", loss, None

    def _is_pause_due(self) -> bool:
        pause_at = self._job.pause_at
        return pause_at is not None and pause_at <= self._step < self._last_step

    def _pause(self, state: Any) -> None:
        self._checkpoints.keep(self._number, state)
        self._store.pause(self._trial, self._step)
        paused = [trial for trial in self._store.trials() if is_paused(trial)]
        paused.sort(key=lambda trial: trial.intermediate_values[last_step(trial)])
        self._checkpoints.trim([trial.number for trial in paused])

    def _record_restart(self) -> None:
        if self._job.resume_step and self._resume_from is None:
            restarted = self._trial.user_attrs.get(RESTARTED_ATTR, 0) + self._job.resume_step
            self._trial.set_user_attr(RESTARTED_ATTR, restarted)

    def _record_session(self) -> None:
        seconds = time.monotonic() - self._started
        self._store.record_session(self._trial, self._first_step, self._step, seconds)


def _require_result(finished: Sequence[FrozenTrial]) -> None:
    """Refuse to continue if trials have finished and all of them failed."""
    failed = [trial for trial in finished if state_of(trial) == "failed"]
    if not finished or len(failed) < len(finished):
        return
    first = min(failed, key=lambda trial: trial.number)
    raise TuningError(
        f"All {len(failed)} trials of the search failed; the first with {error_of(first)}",
        "Expected at least one configuration that trains.",
        "Train the default configuration alone: kedro run --pipelines training.",
    )
