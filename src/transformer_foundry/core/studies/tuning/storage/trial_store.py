"""Reads and changes the trials of a study in Optuna's storage: start, claim, pause, resume, finish, recover.

The storage is the only state, and each change is one transaction. A trial that is queued or paused is WAITING there,
a trial that is being trained is RUNNING. Claiming a trial changes WAITING to RUNNING, which only one worker can do. A
worker that dies leaves a RUNNING trial, which other workers set to WAITING again: it keeps its number, its curve and,
if it was paused before, its checkpoint. No trial is copied, so none is lost or trained twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import SearchSpace
from transformer_foundry.core.studies.tuning.storage.optuna_compat import (
    heartbeat_interval,
    ignore_experimental_warnings,
    open_trial,
    record_heartbeat,
    stale_trial_ids,
)
from transformer_foundry.core.studies.tuning.storage.trial_attributes import (
    ATTEMPTS_ATTR,
    ERROR_ATTR,
    PAUSED_AT_ATTR,
    SESSIONS_ATTR,
    WORKER_ATTR,
    error_of,
    last_step,
    paused_at,
)
from transformer_foundry.core.studies.tuning.storage.worker import has_died, this_worker

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["TrialStore"]

MAX_ATTEMPTS = 3
"""A trial during which this many processes have ended is given up: its configuration may be what ends them."""


class TrialStore:
    """Reads and changes the trials of a study.

    Args:
        study: The study.
        storage: The storage that ``study`` was opened with.
        space: What is searched.
        options: The options of the search.
    """

    def __init__(self, study: Study, storage: BaseStorage, space: SearchSpace, options: TuningOptions) -> None:
        self.study, self.storage, self.space, self.options = study, storage, space, options
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._worker = this_worker()
        self._ids: dict[int, int] = {}
        self._given_heartbeat: set[int] = set()

    def trials(self, *states: str) -> list[FrozenTrial]:
        """Return the trials in any of ``states`` (Optuna's names), or all."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if not states or trial.state.name in states]

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that have a result: complete, pruned, or failed with an error."""
        ended = self.trials("COMPLETE", "PRUNED", "FAIL")
        return [trial for trial in ended if trial.state.name != "FAIL" or error_of(trial)]

    def id_of(self, trial: Trial | FrozenTrial) -> int:
        """Return the id by which the storage knows the trial."""
        number = trial.number
        if number not in self._ids:
            self._ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._ids[number]

    def stored(self, trial: Trial | FrozenTrial) -> FrozenTrial:
        """Return the trial as it is in the storage now."""
        return self.storage.get_trial(self.id_of(trial))

    def start(self, configuration: Mapping[str, Any], **attributes: Any) -> Trial | None:
        """Start a trial; None if another worker has just started the same configuration."""
        import optuna

        template = optuna.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(configuration),
            distributions=self.space.distributions(configuration),
            user_attrs={WORKER_ATTR: self._worker, ATTEMPTS_ATTR: 1, **attributes},
        )
        trial = open_trial(self.study, self.storage.create_new_trial(self._study_id, template_trial=template))
        twins = [twin for twin in self.trials() if twin.params == template.params and twin.state.name != "FAIL"]
        if min(twin.number for twin in twins) != trial.number:
            self._set_state(trial, "FAIL")
            return None
        return trial

    def claim(self, trial: FrozenTrial) -> Trial | None:
        """Take a waiting trial; None if another worker was faster."""
        from optuna.exceptions import UpdateFinishedTrialError

        # A heartbeat first: by the last one, of its former worker, it would be stale at once.
        record_heartbeat(self.storage, self.id_of(trial))
        try:
            if not self._set_state(trial, "RUNNING"):
                return None
        except UpdateFinishedTrialError:
            return None
        self._set(trial, ATTEMPTS_ATTR, trial.user_attrs.get(ATTEMPTS_ATTR, 0) + 1)
        self._set(trial, WORKER_ATTR, self._worker)
        return open_trial(self.study, self.id_of(trial))

    def ask(self) -> Trial:
        """Start a trial that Optuna's sampler proposes; no trial may be waiting."""
        with ignore_experimental_warnings():
            trial = self.study.ask()
        self._set(trial, WORKER_ATTR, self._worker)
        self._set(trial, ATTEMPTS_ATTR, 1)
        self.space.complete(lambda dimension: dimension.suggest(trial))
        return trial

    def record_session(self, trial: Trial | FrozenTrial, start: int, end: int, seconds: float) -> None:
        """Record that steps ``start`` to ``end`` of a trial were trained."""
        sessions = self.stored(trial).user_attrs.get(SESSIONS_ATTR, [])
        session = {"from": start, "to": max(start, end), "seconds": round(seconds, 6), "ended": round(time.time(), 3)}
        self._set(trial, SESSIONS_ATTR, [*sessions, session])

    def pause(self, trial: Trial, step: int) -> None:
        """Pause a trial that has reached ``step``."""
        self._set(trial, PAUSED_AT_ATTR, step)
        self.release(trial)

    def release(self, trial: Trial) -> None:
        """Put a trial of this worker back into the queue."""
        self._set(trial, ATTEMPTS_ATTR, 0)
        self._requeue(trial)

    def withdraw(self, trial: Trial) -> None:
        """Undo that this worker has started or claimed a trial of which it has trained no step."""
        if paused_at(self.stored(trial)) is None:
            self._set_state(trial, "FAIL")
        else:
            self.release(trial)

    def finish(self, trial: Trial, state: str, loss: float | None, error: str | None) -> FrozenTrial:
        """Store the result of a trial; ``state`` is one of Optuna's names.

        Raises:
            UpdateFinishedTrialError: If another worker has finished it.
        """
        self._set(trial, ERROR_ATTR, error)
        # Not study.tell: samplers that have tried everything would then call Study.stop, outside of Study.optimize.
        self._set_state(trial, state, None if loss is None or not math.isfinite(loss) else [loss])
        return self.stored(trial)

    def recover(self) -> None:
        """Queue the trials again whose worker has died, or give them up if that has happened too often."""
        from optuna.exceptions import UpdateFinishedTrialError

        running = self.trials("RUNNING")
        stale = self._stale_ids(running)
        for trial in running:
            if self.id_of(trial) not in stale and not has_died(trial.user_attrs.get(WORKER_ATTR)):
                continue
            try:
                if self.stored(trial).user_attrs == trial.user_attrs:
                    self._recover_one(trial)
            except UpdateFinishedTrialError:  # another worker was faster, and has finished it
                continue

    def _recover_one(self, trial: FrozenTrial) -> None:
        self.record_session(trial, paused_at(trial) or 0, last_step(trial), 0.0)
        if trial.user_attrs.get(ATTEMPTS_ATTR, 0) < MAX_ATTEMPTS:
            self._requeue(trial)
            return
        self._set(trial, ERROR_ATTR, f"the process that trained it ended {MAX_ATTEMPTS} times without an error message")
        self._set_state(trial, "FAIL")

    def _requeue(self, trial: Trial | FrozenTrial) -> None:
        self._set(trial, WORKER_ATTR, None)
        self._set_state(trial, "WAITING")

    def _stale_ids(self, running: Sequence[FrozenTrial]) -> set[int]:
        if heartbeat_interval(self.storage) is None:
            return set()
        for trial in running:
            # A trial that was killed before its first heartbeat never becomes stale: give it one, once.
            if trial.number not in self._given_heartbeat:
                self._given_heartbeat.add(trial.number)
                record_heartbeat(self.storage, self.id_of(trial))
        return stale_trial_ids(self.storage, self._study_id)

    def _set(self, trial: Trial | FrozenTrial, name: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self.id_of(trial), name, value)

    def _set_state(self, trial: Trial | FrozenTrial, state: str, values: list[float] | None = None) -> bool:
        import optuna

        return self.storage.set_trial_state_values(self.id_of(trial), optuna.trial.TrialState[state], values)
