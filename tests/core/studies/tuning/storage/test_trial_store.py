"""Trials whose worker has died, races between workers, and the identity of a worker."""

import ast
import os
import subprocess
import sys

import optuna
import pytest

from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.storage.trial_store import TrialStore
from transformer_foundry.core.studies.tuning.storage.worker import has_died, this_worker

SPACE = parse_space({"x": {"type": "float", "low": 0.0, "high": 1.0}}, {"x": 0.5})


@pytest.fixture
def storage():
    return optuna.storages.InMemoryStorage()


@pytest.fixture
def study(storage):
    return optuna.create_study(storage=storage)


@pytest.fixture
def store(study, storage):
    return TrialStore(study, storage, SPACE, TuningOptions())


@pytest.fixture(scope="module")
def dead_worker():
    code = "from transformer_foundry.core.studies.tuning.storage.worker import this_worker; print(this_worker())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return ast.literal_eval(output)


def die(store, study, trial, dead_worker):
    store.storage.set_trial_user_attr(store.id_of(trial), "worker", dead_worker)
    store.recover()
    return study.get_trials()[trial.number]


def test_a_worker_is_alive_until_its_process_ends(dead_worker):
    assert not has_died(this_worker())
    assert has_died(dead_worker)


def test_another_process_with_the_same_id_is_another_worker():
    assert has_died(this_worker() | {"pid": os.getpid(), "start": "1"})


def test_a_worker_on_another_machine_is_never_known_to_have_died(dead_worker):
    assert not has_died(dead_worker | {"place": "elsewhere"})
    assert not has_died(None)


def test_the_trial_of_a_dead_worker_waits_again_with_its_number_and_curve(store, study, dead_worker):
    trial = store.start({"x": 0.25})
    trial.report(3.0, 10)
    recovered = die(store, study, trial, dead_worker)
    assert (recovered.state.name, recovered.params, recovered.intermediate_values) == (
        "WAITING",
        {"x": 0.25},
        {10: 3.0},
    )
    assert recovered.user_attrs["sessions"][0]["to"] == 10


def test_a_configuration_during_which_three_workers_died_is_given_up(store, study, dead_worker):
    trial = store.start({"x": 0.25})
    for _ in range(2):
        assert die(store, study, trial, dead_worker).state.name == "WAITING"
        trial = store.claim(study.get_trials()[0])
    given_up = die(store, study, trial, dead_worker)
    assert given_up.state.name == "FAIL"
    assert "ended 3 times without an error message" in given_up.user_attrs["error"]


def test_a_trial_that_its_worker_released_is_never_given_up(store, study):
    trial = store.start({"x": 0.25})
    for _ in range(5):
        store.release(trial)
        trial = store.claim(study.get_trials()[0])
    assert study.get_trials()[0].user_attrs["attempts"] == 1


def test_a_waiting_trial_is_taken_by_one_worker_only(store, storage, study):
    store.release(store.start({"x": 0.25}))
    waiting = study.get_trials()[0]
    assert store.claim(waiting) is not None
    assert TrialStore(study, storage, SPACE, TuningOptions()).claim(waiting) is None


def test_of_two_workers_that_start_one_configuration_the_second_withdraws(store, study):
    first, second = store.start({"x": 0.25}), store.start({"x": 0.25})
    assert (first is None, second is None) == (False, True)
    assert len(store.finished()) == 0
