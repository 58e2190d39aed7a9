"""Everything of Optuna that is used beyond its documented API; no other module uses such names.

Tested with Optuna 4.9.0 (the oldest version that is allowed) and 5.0.0. ``tests`` fails with the name that is missing
when a release drops one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import Trial

__all__ = [
    "STALE_TRIALS_METHOD",
    "heartbeat_interval",
    "ignore_experimental_warnings",
    "open_trial",
    "record_heartbeat",
    "stale_trial_ids",
]

_log = logging.getLogger(__name__)

STALE_TRIALS_METHOD = "_get_stale_trial_ids"


def stale_trial_ids(storage: BaseStorage, study_id: int) -> set[int]:
    """Return the ids of running trials without a heartbeat for the grace period.

    The public ``optuna.storages.fail_stale_trials`` ends these trials; here they have to be queued again, with their
    number, curve and checkpoint. Without the method no trial counts as stale: dead workers on this machine are still
    found by their process id, those on other machines are not.
    """
    find = getattr(storage, STALE_TRIALS_METHOD, None)
    if find is None:
        _log.warning("This version of Optuna does not report stale trials: trials of other machines are not retried.")
        return set()
    return set(find(study_id))


def heartbeat_interval(storage: BaseStorage) -> int | None:
    """Return the seconds between two heartbeats of a running trial; None if the storage keeps none.

    Storages with heartbeats have a base class of their own, which is not public; ``RDBStorage`` is one of them.
    """
    interval: int | None = getattr(storage, "get_heartbeat_interval", lambda: None)()
    return interval if hasattr(storage, "record_heartbeat") else None


def record_heartbeat(storage: BaseStorage, trial_id: int) -> None:
    """Record a heartbeat of a running trial, if the storage keeps them."""
    if heartbeat_interval(storage) is not None:
        storage.record_heartbeat(trial_id)  # type: ignore[attr-defined] # in the base class that is not public


def open_trial(study: Study, trial_id: int) -> Trial:
    """Return a trial that exists in the storage, to report to.

    The class is public; its documentation discourages calling the constructor. ``Study.ask`` cannot be used: it takes
    the oldest trial that waits, and a paused trial waits until it is chosen.
    """
    import optuna

    return optuna.Trial(study, trial_id)


@contextmanager
def ignore_experimental_warnings() -> Iterator[None]:
    """Ignore Optuna's warnings that heartbeats are experimental and meant for ``Study.optimize``."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        yield
