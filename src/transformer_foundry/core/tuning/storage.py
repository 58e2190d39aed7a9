"""The study on disk: one SQLite file, whose trials are retried when the process that ran them has died."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.errors import TuningError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.study import Study

__all__ = ["STUDY_NAME", "load_study", "open_storage"]

STUDY_NAME = "search"
"""Each file holds one study."""

HEARTBEAT_S = 2
GRACE_S = 10
"""A running trial that has not been heard of for this long has died: five missed beats."""

LOCK_TIMEOUT_S = 30.0
MAX_RETRIES = 2
"""A configuration that takes the whole process down twice more is given up: it may be what kills it."""


def open_storage(path: Path, *, heartbeat_s: int = HEARTBEAT_S, grace_s: int = GRACE_S) -> RDBStorage:
    """Open the SQLite file at ``path``, made if it is missing, as an Optuna storage.

    Args:
        path: The file; missing folders are made.
        heartbeat_s: Seconds between two signs of life of a running trial.
        grace_s: Seconds without one after which a trial counts as interrupted and is retried.

    Raises:
        TuningError: If the file is no SQLite data base, is damaged, or stays locked.
    """
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from sqlalchemy.exc import DatabaseError

    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet_optuna():
        try:
            return RDBStorage(
                f"sqlite:///{path}",
                engine_kwargs={"connect_args": {"timeout": LOCK_TIMEOUT_S}},
                heartbeat_interval=heartbeat_s,
                grace_period=grace_s,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
        except DatabaseError as err:
            raise TuningError(
                f"The study {path} cannot be opened: {err.orig}.",
                "Expected a SQLite file that no other program holds locked.",
                "End the other program, restore the file, or move it away to begin a new search.",
            ) from err


def load_study(storage: RDBStorage) -> Study:
    """Return the study that ``storage`` holds, for reading.

    Raises:
        TuningError: If no search has begun there.
    """
    import optuna

    try:
        with quiet_optuna():
            return optuna.load_study(study_name=STUDY_NAME, storage=storage)
    except KeyError as err:
        raise TuningError(
            f"The storage {storage.url} holds no study.",
            "Expected the study of a search that has begun.",
            "Run it first: kedro run --pipelines tuning.",
        ) from err


@contextmanager
def sign_of_life(storage: BaseStorage, trial_id: int) -> Iterator[None]:
    """Record heartbeats of a running trial in the background for as long as the block lasts, where they are kept."""
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(storage, RDBStorage):
        yield
        return
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(storage.heartbeat_interval):
            try:
                storage.record_heartbeat(trial_id)
            except (SQLAlchemyError, StorageInternalError):
                # A beat that finds the file locked is missed; the grace period allows for several.
                continue

    storage.record_heartbeat(trial_id)
    thread = threading.Thread(target=beat, name="trial-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Ignore Optuna's warnings that heartbeats are experimental and meant for ``Study.optimize``; ours are our own."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        yield
