"""A study from someone else: its schema runs nothing, and the copies of a study are looked at too."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.studies.tuning.storage import StudyHandle, open_storage
from transformer_foundry.core.studies.tuning.storage.study_copies import find_damage, restore_study
from transformer_foundry.core.studies.tuning.storage.study_schema import foreign_part

ENDLESS = "with recursive r(i) as (select 1 union all select i + 1 from r) select i from r"
FOREIGN = {
    "a view in place of a table": (
        f"alter table trial_params rename to old; create view trial_params as {ENDLESS}", "the view trial_params"),
    "a trigger": (
        "create table junk(x); create trigger t after insert on trials begin "
        "insert into junk select randomblob(1000000); end", "the trigger t"),
    "a generated column": ("create table g(a, b generated always as (a || a))", "computes with as in g"),
    "a generated column in short": ("create table g(a, b as(a || a))", "computes with as in g"),
    "a default that is computed": ("create table g(a default (hex(zeroblob(4000000))))", "computes with default in g"),
    "a check that computes": ("create table g(a check (length(hex(zeroblob(9))) > 0))", "computes with length in g"),
    "a function that is quoted": ('create table g(a check ("hex"(1) > 0))', "computes with hex in g"),
    "a function in brackets": ("create table g(a check ([hex]/* */(1) > 0))", "computes with hex in g"),
    "an index that computes": ("create table g(a); create index i on g(hex(a))", "computes with hex in i"),
    "a virtual table": ("create virtual table v using fts5(a)", "computes with a virtual table"),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("study") / "study.db"
    open_storage(path).engine.dispose()
    return path.read_bytes()


def altered(path: Path, whole: bytes, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(script)
    return path


@pytest.mark.parametrize(("script", "what"), FOREIGN.values(), ids=FOREIGN)
def test_a_study_whose_schema_runs_something_is_refused(tmp_path: Path, whole: bytes, script: str, what: str) -> None:
    path = altered(tmp_path / "study.db", whole, script)
    with pytest.raises(TuningError, match=what):
        StudyHandle(path).storage()
    with pytest.raises(TuningError, match=what):
        open_storage(f"sqlite:///{path}")
    with pytest.raises(TuningError, match=rf"{what}.*no copy of it that is whole"):
        restore_study(path)


def test_a_copy_whose_schema_runs_something_is_not_used(tmp_path: Path, whole: bytes) -> None:
    copy = altered(tmp_path / "copies" / "000001.db", whole, FOREIGN["a trigger"][0])
    copy.rename(copy.with_name(f"000001-{sha256_of(copy)[:16]}.db"))
    (tmp_path / "study.db").write_bytes(whole[:5000])
    with pytest.raises(TuningError, match="no copy of it that is whole"):
        restore_study(tmp_path / "study.db")


def test_tables_as_optuna_and_sqlalchemy_make_them_are_whole(tmp_path: Path, whole: bytes) -> None:
    path = altered(
        tmp_path / "study.db",
        whole,
        "create table \"more\" (id INTEGER NOT NULL, name VARCHAR(32) DEFAULT 'hex(1)', -- hex(2)\n"
        "state VARCHAR(8) NOT NULL, PRIMARY KEY (id), CONSTRAINT c CHECK (state IN ('a', 'b') AND (id = 1)), "
        "UNIQUE (name, state), FOREIGN KEY(id) REFERENCES trials (trial_id)); create unique index i on more (name)",
    )
    assert (foreign_part(path), find_damage(path)) == (None, None)
    StudyHandle(path).storage()
