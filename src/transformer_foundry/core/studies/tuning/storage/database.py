"""Open the storage of a study, a SQLite file or a database, and record heartbeats of the trials in training."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import TuningError, cause_chain
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.studies.tuning.storage.optuna_compat import (
    heartbeat_interval,
    ignore_experimental_warnings,
    record_heartbeat,
)
from transformer_foundry.core.studies.tuning.storage.study_copies import keep_copy
from transformer_foundry.core.studies.tuning.storage.study_schema import LOCK_TIMEOUT_S, foreign_part

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.study import Study

__all__ = ["STOPPED", "STUDY_NAME", "StudyHandle", "explain_errors", "heartbeat", "load_study", "open_storage"]

STUDY_NAME = "search"
"""Each SQLite file holds one study."""

STOPPED = "stopped"
"""User attribute of a study: why its search ended; empty while a search runs or after it was interrupted."""

HEARTBEAT_S = 2
GRACE_S = 10
"""A running trial without a heartbeat for this long is stale: five missed beats."""

MAX_ATTEMPTS = 5
RETRY_S = 0.5


def open_storage(where: Path | str, *, heartbeat_s: int = HEARTBEAT_S, grace_s: int = GRACE_S) -> RDBStorage:
    """Open a study's storage.

    Args:
        where: Path of a SQLite file, created with its folders if missing; or the URL of a database (with ``://``).
        heartbeat_s: Seconds between two heartbeats of a running trial.
        grace_s: Seconds without a heartbeat after which a trial counts as interrupted and is retried.

    Raises:
        TuningError: If the file is not a SQLite database, is damaged or stays locked, or the database is unreachable;
            or if its schema would run what no search writes.
    """
    from sqlalchemy.exc import SQLAlchemyError

    url = _url_of(where)
    try:
        if isinstance(where, Path):
            where.parent.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(url)
        return _connect(url, heartbeat_s, grace_s)
    except ImportError as err:
        raise TuningError(
            f"The storage {_masked(url)} needs a Python driver that is not installed: {err.__cause__ or err}.",
            "Expected the driver that the URL names behind '+', or the usual one of the database.",
            "For PostgreSQL, pip install psycopg2-binary and start tuning.storage with postgresql+psycopg2://.",
        ) from err
    except (SQLAlchemyError, OSError, RuntimeError) as err:
        raise _cannot_open(url, err) from err


def _refuse_foreign(url: str) -> None:
    from sqlalchemy.engine import make_url

    found = make_url(url)
    path = Path(found.database or "") if found.get_backend_name() == "sqlite" else None
    if path is not None and path.is_file() and (foreign := foreign_part(path, LOCK_TIMEOUT_S)) is not None:
        raise TuningError(
            f"The study {path} {foreign}.",
            "Expected the tables of a search; anything else in a SQLite file may read or write without end.",
            "If the file is not yours, do not use it; else copy its rows to a new study.",
        )


def _connect(url: str, heartbeat_s: int, grace_s: int) -> RDBStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    for attempt in range(MAX_ATTEMPTS):
        try:
            with ignore_experimental_warnings():
                return RDBStorage(
                    url,
                    engine_kwargs={"connect_args": {"timeout": LOCK_TIMEOUT_S}} if url.startswith("sqlite") else None,
                    heartbeat_interval=heartbeat_s,
                    grace_period=grace_s,
                )
        except SQLAlchemyError as err:
            # Workers that start together create the tables together; all but one find tables or rows that exist.
            is_race = "already exists" in str(err) or isinstance(err, IntegrityError)
            if not is_race or attempt + 1 == MAX_ATTEMPTS:
                raise
            time.sleep(RETRY_S)
    raise AssertionError(url)


def load_study(storage: BaseStorage, study_name: str = STUDY_NAME) -> Study:
    """Return the study that ``storage`` holds, for reading.

    Raises:
        TuningError: If no search has started there.
    """
    import optuna

    try:
        with ignore_experimental_warnings(), explain_errors(storage):
            return optuna.load_study(study_name=study_name, storage=storage)
    except KeyError as err:
        raise TuningError(
            f"The storage {_masked(getattr(storage, 'url', 'in memory'))} holds no study {study_name}.",
            "Expected the study of a search that has started.",
            "Run it first: kedro run --pipelines tuning.",
        ) from err


@dataclass(frozen=True)
class StudyHandle:
    """Where a study is stored; each method opens it.

    Args:
        path: The SQLite file, which need not exist yet. Checkpoints of paused trials are beside it, also with a URL.
        url: URL of a database that replaces the file.
        name: Name of the study in the database.
    """

    path: Path
    url: str | None = None
    name: str = STUDY_NAME

    def __repr__(self) -> str:
        # The URL may contain a password.
        return f"StudyHandle({_masked(self.url) if self.url else str(self.path)!r}, name={self.name!r})"

    def storage(self) -> RDBStorage:
        """Return the storage, after creating the file if it is missing.

        Raises:
            TuningError: If it cannot be opened.
        """
        return open_storage(self.url or self.path)

    def study(self) -> Study:
        """Return the study.

        Raises:
            TuningError: If it cannot be opened or no search has started in it.
        """
        return load_study(self.storage(), self.name)

    def keep_copy(self) -> None:
        """Copy the file, so that damage to it loses no trial; a database has its own backups."""
        if self.url is None:
            keep_copy(self.path)

    def has_ended(self) -> bool:
        """Return whether a search has ended in the study: False if none has started or one was interrupted.

        Raises:
            TuningError: If the storage cannot be opened.
        """
        import optuna

        storage = self.storage()
        with explain_errors(storage):
            summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
        return any(summary.study_name == self.name and summary.user_attrs.get(STOPPED) for summary in summaries)

    @property
    def paused_folder(self) -> Path:
        """Folder of the checkpoints of paused trials."""
        return self.path.parent / "paused"


@contextmanager
def explain_errors(storage: BaseStorage) -> Iterator[None]:
    """Turn an error of the database within the block into a ``TuningError``."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as err:
        raise _cannot_open(getattr(storage, "url", "in memory"), err) from err


def _url_of(where: Path | str) -> str:
    if isinstance(where, Path):
        return f"sqlite:///{where}"
    if "://" not in where:
        raise TuningError(
            f"tuning.storage is {where!r}.",
            "Expected the URL of a database, such as postgresql+psycopg2://user@host/name.",
            "Correct it, or leave it out to use a SQLite file of the run.",
        )
    return where


def _masked(url: str) -> str:
    """Return ``url`` without its password, and a SQLite URL as the path of its file."""
    return redact(url.removeprefix("sqlite:///"))


def _cannot_open(url: str, err: Exception) -> TuningError:
    causes = list(cause_chain(err, explicit=True))
    # SQLAlchemy keeps the driver's error in ``orig``.
    driver_errors = [original for item in causes if (original := getattr(item, "orig", None)) is not None]
    reason = " ".join(str([*driver_errors, causes[-1]][0]).split())
    is_file = url.startswith("sqlite")
    return TuningError(
        f"The study in {_masked(url)} cannot be used: {reason[:200]}",
        "Expected an intact SQLite file that no other program has locked."
        if is_file
        else "Expected a database that can be reached and written to.",
        "Stop the other program, restore the file, or move it away to start a new search."
        if is_file
        else "Check tuning.storage, the network and the password (PGPASSWORD or ~/.pgpass), and run again: "
        "finished trials are kept.",
    )


@contextmanager
def heartbeat(storage: BaseStorage, trial_id: int) -> Iterator[None]:
    """Record heartbeats of a running trial in the background during the block, if the storage keeps them."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    interval = heartbeat_interval(storage)
    if interval is None:
        yield
        return
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(interval):
            try:
                record_heartbeat(storage, trial_id)
            except (SQLAlchemyError, StorageInternalError):
                # A heartbeat that finds the file locked is missed; the grace period allows for several.
                continue

    record_heartbeat(storage, trial_id)
    thread = threading.Thread(target=beat, name="trial-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
