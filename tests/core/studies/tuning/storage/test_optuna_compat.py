"""What is used of Optuna beyond its documented API: in one module, present in this version, and with a fallback."""

from __future__ import annotations

import ast
from pathlib import Path

import optuna
import pytest

import transformer_foundry
from transformer_foundry.core.studies.tuning.storage import open_storage, optuna_compat
from transformer_foundry.core.studies.tuning.storage.optuna_compat import (
    heartbeat_interval,
    ignore_experimental_warnings,
    open_trial,
    stale_trial_ids,
)

PACKAGE = Path(transformer_foundry.__file__).parent
COMPAT = Path(optuna_compat.__file__)
USERS = [path for path in sorted(PACKAGE.rglob("*.py")) if "optuna" in path.read_text() and path != COMPAT]


def private_names() -> set[str]:
    """Names with one underscore of the objects that a search handles, in the version that is installed."""
    with ignore_experimental_warnings():
        study = optuna.create_study(storage=optuna.storages.RDBStorage("sqlite://", heartbeat_interval=1))
        trial = study.ask()
        handled = [study, trial, study.trials[0], study._storage, study._storage._backend, study.sampler, study.pruner]
    names = {name for thing in handled for name in (*dir(thing), *vars(thing))}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


PRIVATE = private_names()


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_uses_private_names_of_optuna(path: Path) -> None:
    used = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            used += [node.attr] if node.attr in PRIVATE else []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            used += [node.value] if node.value in PRIVATE else []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            used += [name for name in names if name.startswith("_")]
        if isinstance(node, ast.Import):
            used += [alias.name for alias in node.names if alias.name.startswith("optuna") and "._" in alias.name]
    assert used == []


def test_this_version_of_optuna_has_what_the_compat_module_uses(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "study.db")
    for name in (optuna_compat.STALE_TRIALS_METHOD, "record_heartbeat", "get_heartbeat_interval"):
        assert callable(getattr(storage, name, None)), (
            f"Optuna {optuna.__version__} has no RDBStorage.{name}: optuna_compat needs another way to find trials "
            "whose worker on another machine has died."
        )


def test_a_trial_that_exists_can_be_reported_to() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage)
    number = study.ask().number
    trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study.study_name), number)
    open_trial(study, trial_id).report(1.5, 10)
    assert study.trials[number].intermediate_values == {10: 1.5}


def test_a_storage_without_heartbeats_has_no_interval() -> None:
    assert heartbeat_interval(optuna.storages.InMemoryStorage()) is None


def test_without_the_private_method_no_trial_is_stale(caplog: pytest.LogCaptureFixture) -> None:
    assert stale_trial_ids(object(), 1) == set()
    assert "does not report stale trials" in caplog.text
