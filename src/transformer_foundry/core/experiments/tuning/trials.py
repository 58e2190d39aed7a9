"""The trials of a study as they stand in Optuna's storage: claimed, paused, resumed, ended, recovered.

The storage is the only state, and each change is one transaction. A trial that is queued or paused is WAITING there, a
trial that is trained RUNNING; taking one is a change from WAITING to RUNNING, which only one worker can make. A worker
that dies leaves a RUNNING trial behind, which the others put back to WAITING: with its number, its curve and, if it
was paused before, its checkpoint. Nothing is copied, so nothing can be lost or doubled on the way.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.experiments.tuning.options import TuningOptions
from transformer_foundry.core.experiments.tuning.space import Dimension, SearchSpace
from transformer_foundry.core.experiments.tuning.storage import quiet_optuna

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = [
    "DEFAULT",
    "ERROR",
    "GAIN",
    "PAUSED_AT",
    "RESTARTED",
    "SESSIONS",
    "STRAIGHT",
    "Ledger",
    "has_died",
    "is_paused",
    "last_step",
    "seconds_of",
    "steps_trained",
    "suggest",
    "this_worker",
]

# User attributes of a trial.
DEFAULT = "default"
ERROR = "error"
GAIN = "gain"
PAUSED_AT = "paused_at"
SESSIONS = "sessions"
STRAIGHT = "straight"
RESTARTED = "restarted"
WORKER = "worker"
ATTEMPTS = "attempts"

MAX_ATTEMPTS = 3
"""A configuration that has taken down this many processes is given up: it may be what kills them."""


def is_paused(trial: FrozenTrial) -> bool:
    """Return whether the trial waits to be resumed."""
    return trial.state.name == "WAITING" and trial.user_attrs.get(PAUSED_AT) is not None


def last_step(trial: FrozenTrial) -> int:
    """Return the last step that the trial has reported, or 0."""
    return max(trial.intermediate_values, default=0)


def steps_trained(trial: FrozenTrial) -> int:
    """Return the steps that all sessions of the trial have trained, those that were lost included."""
    return sum(session["to"] - session["from"] for session in trial.user_attrs.get(SESSIONS, []))


def seconds_of(trial: FrozenTrial) -> float:
    """Return the seconds that all sessions of the trial have taken."""
    return float(sum(session["seconds"] for session in trial.user_attrs.get(SESSIONS, [])))


class Ledger:
    """Reads and changes the trials of a study.

    Args:
        study: The study.
        space: What it searches.
        options: The options of the search.
    """

    def __init__(self, study: Study, space: SearchSpace, options: TuningOptions) -> None:
        self.study, self.space, self.options = study, space, options
        self._storage, self._worker = study._storage, this_worker()
        self._vouched: set[int] = set()

    def trials(self, *states: str) -> list[FrozenTrial]:
        """Return the trials in any of ``states`` (Optuna's names), or all."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if not states or trial.state.name in states]

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that have a result: complete, pruned, or failed by their own error."""
        ended = self.trials("COMPLETE", "PRUNED", "FAIL")
        return [trial for trial in ended if trial.state.name != "FAIL" or trial.user_attrs.get(ERROR)]

    def begin(self, configuration: Mapping[str, Any], **attributes: Any) -> Trial | None:
        """Begin a trial; None if another worker has just begun the same configuration."""
        import optuna

        template = optuna.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(configuration),
            distributions=self.space.distributions(configuration),
            user_attrs={WORKER: self._worker, ATTEMPTS: 1, **attributes},
        )
        trial_id = self._storage.create_new_trial(self.study._study_id, template_trial=template)
        twins = [t for t in self.trials() if t.params == template.params and t.state.name != "FAIL"]
        if min(twin._trial_id for twin in twins) != trial_id:
            self._storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL)
            return None
        return optuna.Trial(self.study, trial_id)

    def claim(self, trial: FrozenTrial) -> Trial | None:
        """Take a waiting trial; None if another worker was faster."""
        import optuna
        from optuna.exceptions import UpdateFinishedTrialError

        # A sign of life first: by the last one, of its former worker, it would be taken for dead at once.
        self._beat(trial._trial_id)
        try:
            if not self._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:
            return None
        self._set(trial._trial_id, ATTEMPTS, trial.user_attrs.get(ATTEMPTS, 0) + 1)
        self._set(trial._trial_id, WORKER, self._worker)
        return optuna.Trial(self.study, trial._trial_id)

    def ask(self) -> Trial:
        """Begin a trial that Optuna's sampler proposes; none may be waiting."""
        with quiet_optuna():
            trial = self.study.ask()
        self._set(trial._trial_id, WORKER, self._worker)
        self._set(trial._trial_id, ATTEMPTS, 1)
        self.space.complete(lambda dimension: suggest(trial, dimension))
        return trial

    def note_session(self, trial_id: int, start: int, end: int, seconds: float) -> None:
        """Write down that steps ``start`` to ``end`` of a trial were trained."""
        stored = self._storage.get_trial(trial_id)
        session = {"from": start, "to": max(start, end), "seconds": round(seconds, 6), "ended": round(time.time(), 3)}
        self._set(trial_id, SESSIONS, [*stored.user_attrs.get(SESSIONS, []), session])

    def pause(self, trial: Trial, step: int) -> None:
        """Put a trial that has reached ``step`` aside."""
        self._set(trial._trial_id, PAUSED_AT, step)
        self.release(trial._trial_id)

    def release(self, trial_id: int) -> None:
        """Put a trial of this worker back into the queue."""
        self._set(trial_id, ATTEMPTS, 0)
        self._put_back(trial_id)

    def withdraw(self, trial: Trial) -> None:
        """Undo that this worker has begun or claimed a trial, of which no step was trained."""
        import optuna

        if self._storage.get_trial(trial._trial_id).user_attrs.get(PAUSED_AT) is None:
            self._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
        else:
            self.release(trial._trial_id)

    def end(self, trial: Trial, state: str, loss: float | None, error: str | None) -> FrozenTrial:
        """Write down the result of a trial; ``state`` is one of Optuna's names.

        Raises:
            UpdateFinishedTrialError: If another worker has ended it.
        """
        import optuna

        self._set(trial._trial_id, ERROR, error)
        # Not study.tell: it lets samplers that have tried everything stop a Study.optimize that is not there.
        values = None if loss is None or not math.isfinite(loss) else [loss]
        self._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState[state], values)
        return self._storage.get_trial(trial._trial_id)

    def recover(self) -> None:
        """Put trials whose worker has died back into the queue, or give them up if that happens again and again."""
        from optuna.exceptions import UpdateFinishedTrialError

        running = self.trials("RUNNING")
        stale = self._stale_ids(running)
        for trial in running:
            if trial._trial_id not in stale and not has_died(trial.user_attrs.get(WORKER)):
                continue
            try:
                if self._storage.get_trial(trial._trial_id).user_attrs == trial.user_attrs:
                    self._recover_one(trial)
            except UpdateFinishedTrialError:  # another worker was faster, and has ended it
                continue

    def _recover_one(self, trial: FrozenTrial) -> None:
        import optuna

        paused_at = trial.user_attrs.get(PAUSED_AT) or 0
        self.note_session(trial._trial_id, paused_at, last_step(trial), 0.0)
        if trial.user_attrs.get(ATTEMPTS, 0) < MAX_ATTEMPTS:
            self._put_back(trial._trial_id)
            return
        self._set(trial._trial_id, ERROR, f"the process that trained it ended {MAX_ATTEMPTS} times without a word")
        self._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)

    def _put_back(self, trial_id: int) -> None:
        import optuna

        self._set(trial_id, WORKER, None)
        self._storage.set_trial_state_values(trial_id, optuna.trial.TrialState.WAITING)

    def _stale_ids(self, running: Sequence[FrozenTrial]) -> set[int]:
        """Trials of which no sign of life was seen for the grace period."""
        if not self._keeps_heartbeats:
            return set()
        for trial in running:
            # Optuna never takes a trial for dead that was killed before its first sign of life: give it one, once.
            if trial._trial_id not in self._vouched:
                self._vouched.add(trial._trial_id)
                self._beat(trial._trial_id)
        return set(self._storage._get_stale_trial_ids(self.study._study_id))

    def _beat(self, trial_id: int) -> None:
        if self._keeps_heartbeats:
            self._storage.record_heartbeat(trial_id)

    @property
    def _keeps_heartbeats(self) -> bool:
        return hasattr(self._storage, "record_heartbeat") and self._storage.get_heartbeat_interval() is not None

    def _set(self, trial_id: int, name: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, name, value)


def suggest(trial: Trial, dimension: Dimension) -> Any:
    """Return the value that the trial's sampler proposes for a dimension."""
    if dimension.type == "categorical":
        return trial.suggest_categorical(dimension.name, dimension.choices)
    low, high = dimension.bounds
    if dimension.type == "int":
        return trial.suggest_int(dimension.name, int(low), int(high), log=dimension.log)
    return trial.suggest_float(dimension.name, low, high, log=dimension.log)


def this_worker() -> dict[str, Any]:
    """Return who this process is: place (machine, boot and process namespace), process id and its start."""
    return {"place": _place(), "pid": os.getpid(), "start": _start_of(os.getpid())}


def has_died(worker: Mapping[str, Any] | None) -> bool:
    """Return whether ``worker`` is known to have ended; False where that cannot be seen from here."""
    if not worker or worker["place"] is None or worker["place"] != _place():
        return False
    return _start_of(worker["pid"]) != worker["start"]


def _place() -> str | None:
    """Where process ids mean the same; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _start_of(pid: int) -> str | None:
    """When the process began, in clock ticks since boot; None if there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start
