"""Name and read the user attributes of a trial in the storage.

The names are stored: with another name, studies of earlier versions could not be continued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = [
    "ATTEMPTS_ATTR",
    "DEFAULT_ATTR",
    "ERROR_ATTR",
    "GAINS_ATTR",
    "PAUSED_AT_ATTR",
    "RESTARTED_ATTR",
    "SESSIONS_ATTR",
    "TO_THE_END_ATTR",
    "WORKER_ATTR",
    "error_of",
    "final_loss",
    "is_paused",
    "last_step",
    "paused_at",
    "seconds_of",
    "steps_trained",
]

ATTEMPTS_ATTR = "attempts"
"""Processes in a row that ended while they trained it."""
DEFAULT_ATTR = "default"
"""Whether it is the default configuration."""
ERROR_ATTR = "error"
"""Why it failed or diverged."""
GAINS_ATTR = "gain"
"""[decision, expected gain] of each decision that started or resumed it."""
PAUSED_AT_ATTR = "paused_at"
"""Step at which it was paused last."""
RESTARTED_ATTR = "restarted"
"""Steps that were trained again because a checkpoint was lost."""
SESSIONS_ATTR = "sessions"
"""``from``, ``to``, ``seconds`` and ``ended`` of each stretch of training."""
TO_THE_END_ATTR = "straight"
"""Whether it is trained without a pause."""
WORKER_ATTR = "worker"
"""The process that trains it; see ``worker.this_worker``."""


def error_of(trial: FrozenTrial) -> str | None:
    """Return why the trial failed or diverged, or None."""
    error: str | None = trial.user_attrs.get(ERROR_ATTR)
    return error


def final_loss(trial: FrozenTrial) -> float | None:
    """Return the loss of a complete trial; None for any other."""
    return trial.value if trial.state.name == "COMPLETE" else None


def paused_at(trial: FrozenTrial) -> int | None:
    """Return the step at which the trial was paused last; None if it never was."""
    step: int | None = trial.user_attrs.get(PAUSED_AT_ATTR)
    return step


def is_paused(trial: FrozenTrial) -> bool:
    """Return whether the trial waits to be resumed."""
    return trial.state.name == "WAITING" and paused_at(trial) is not None


def last_step(trial: FrozenTrial) -> int:
    """Return the last step that the trial has reported, or 0."""
    return max(trial.intermediate_values, default=0)


def steps_trained(trial: FrozenTrial) -> int:
    """Return the steps of all sessions of the trial, including those that were lost."""
    return sum(session["to"] - session["from"] for session in trial.user_attrs.get(SESSIONS_ATTR, []))


def seconds_of(trial: FrozenTrial) -> float:
    """Return the seconds of all sessions of the trial."""
    return float(sum(session["seconds"] for session in trial.user_attrs.get(SESSIONS_ATTR, [])))
