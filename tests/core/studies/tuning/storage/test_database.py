import sqlite3
import time

import optuna
import pytest

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.storage import database, load_study, open_storage
from transformer_foundry.core.studies.tuning.storage.database import heartbeat
from transformer_foundry.core.studies.tuning.storage.optuna_compat import ignore_experimental_warnings
from transformer_foundry.core.studies.tuning.storage.trial_store import TrialStore

SPACE = parse_space({"x": {"type": "float", "low": 0.0, "high": 1.0}}, {"x": 0.5})


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "study.db"
    path.write_text("not a database, but long enough to have a header" * 20)
    with pytest.raises(TuningError, match=r"study\.db cannot be used: file is not a database"):
        open_storage(path)


def test_a_file_that_another_program_holds_locked_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "study.db"
    open_storage(path)
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.1)
    with sqlite3.connect(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TuningError, match=r"study\.db cannot be used: database is locked"):
            open_storage(path)


def test_a_storage_that_is_not_a_url_is_refused():
    with pytest.raises(TuningError, match="Expected the URL of a database"):
        open_storage("study.db")


def test_a_database_that_cannot_be_reached_is_refused_without_its_password():
    pytest.importorskip("psycopg2")
    with pytest.raises(TuningError, match=r"postgresql\+psycopg2://\[redacted\]@127") as caught:
        open_storage("postgresql+psycopg2://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named():
    with pytest.raises(TuningError, match="needs a Python driver that is not installed: No module named"):
        open_storage("mysql+mysqldb://user@127.0.0.1/none")


def test_a_storage_without_a_search_says_what_to_run(tmp_path):
    with pytest.raises(TuningError, match="kedro run --pipelines tuning"):
        load_study(open_storage(tmp_path / "study.db"))


def test_missing_folders_are_made(tmp_path):
    open_storage(tmp_path / "a" / "b" / "study.db")
    assert (tmp_path / "a" / "b" / "study.db").is_file()


def test_opening_warns_of_nothing(tmp_path, recwarn):
    open_storage(tmp_path / "study.db")
    assert not list(recwarn)


@pytest.mark.slow
def test_a_trial_with_heartbeats_is_not_retried(tmp_path):
    storage = open_storage(tmp_path / "study.db", heartbeat_s=1, grace_s=2)
    with ignore_experimental_warnings():
        study = optuna.create_study(storage=storage, study_name="search")
        alive, dead = study.ask(), study.ask()
        store = TrialStore(study, storage, SPACE, TuningOptions())
        with heartbeat(storage, store.id_of(alive)):
            deadline = time.monotonic() + 20
            while study.get_trials()[dead.number].state.name == "RUNNING" and time.monotonic() < deadline:
                store.recover()
        states = [trial.state.name for trial in study.get_trials()]
    assert states == ["RUNNING", "WAITING"]
