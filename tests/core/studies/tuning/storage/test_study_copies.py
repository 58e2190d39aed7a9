from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.core.studies.tuning.curves import CurveTrainer
from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.studies.tuning import TuningOptions, parse_space, search
from transformer_foundry.core.studies.tuning.storage import StudyHandle
from transformer_foundry.core.studies.tuning.storage.study_copies import keep_copy, restore_study
from transformer_foundry.datasets.study import StudyDataset

SPACE = parse_space({"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1}}, {"learning_rate": 1e-3})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tuning" / "study.db"


def search_on(path, n_trials, sampler="tpe"):
    """Continue the search in a new session, as the pipeline does."""
    handle, options = (
        StudyDataset(filepath=str(path)).load(),
        TuningOptions(n_trials=n_trials, max_steps=100, sampler=sampler),
    )
    trainer = CurveTrainer()
    list(search(SPACE, trainer, options, handle.storage(), on_session=handle.keep_copy))
    return trainer


def values_of(path):
    return [trial.value for trial in StudyHandle(path).study().get_trials()]


def flip(path):
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content), 4096):
        content[at] ^= 0xFF  # the kind of each page
    path.write_bytes(content)


def empty_tables(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        for table in ("trial_values", "trial_params", "trial_intermediate_values", "trials", "studies"):
            database.execute(f"DELETE FROM {table}")
        database.commit()


def alter_a_loss(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE trial_values SET value = value / 2")
        database.commit()


DAMAGES = {
    "pages": (flip, "is damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is damaged"),
    "no database": (lambda path: path.write_bytes(b"no database, of more than one hundred bytes " * 9), "is damaged"),
    "empty file": (lambda path: path.write_bytes(b""), "has lost what it held"),
    "emptied": (empty_tables, "has lost what it held"),
    "a loss": (alter_a_loss, "differs in 3 trials from its copy"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_study_goes_on_from_its_last_copy(path, damage, caplog):
    search_on(path, 3)
    before = values_of(path)
    do, words = DAMAGES[damage]
    do(path)
    assert len(search_on(path, 4).tried) == 1
    assert values_of(path)[:3] == before
    assert words in caplog.text
    assert (path.parent / "study-aside-1.db").is_file()


def test_a_pause_is_kept_too(path):
    handle, trainer = StudyHandle(path), CurveTrainer()
    options = TuningOptions(n_trials=3, max_steps=100, sampler="pause_resume")
    sessions = []
    ended = list(search(SPACE, trainer, options, handle.storage(), on_session=lambda: sessions.append(1)))
    assert len(sessions) > len(ended)


def test_a_damaged_copy_is_not_used(path, caplog):
    search_on(path, 2)
    newest = sorted((path.parent / "copies").iterdir())[-1]
    flip(newest)
    flip(path)
    restore_study(path)
    assert len(values_of(path)) >= 1
    assert "restored from its last copy" in caplog.text


def test_without_a_copy_damage_is_refused_by_name(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database")
    with pytest.raises(TuningError, match=r"study\.db is damaged, and there is no copy"):
        restore_study(path)


def test_whoever_deletes_the_study_starts_a_new_search_and_is_told_where_the_copies_are(path, caplog):
    search_on(path, 2)
    path.unlink()
    assert len(search_on(path, 2).tried) == 2
    assert "copies-aside-1" in caplog.text


def test_a_whole_study_is_left_as_it_is(path, caplog):
    search_on(path, 2)
    before = path.read_bytes()
    restore_study(path)
    assert path.read_bytes() == before
    assert "study.db" not in caplog.text


def test_a_copy_that_cannot_be_written_ends_no_search(path, caplog):
    search_on(path, 1)
    (path.parent / "copies").rename(path.parent / "other")
    (path.parent / "copies").write_text("")
    keep_copy(path)
    assert "No copy of the study" in caplog.text
