"""Trials whose worker has died, races between workers, and who a worker is."""

import ast
import os
import subprocess
import sys

import optuna
import pytest

from transformer_foundry.core.experiments.tuning.options import TuningOptions
from transformer_foundry.core.experiments.tuning.space import parse_space
from transformer_foundry.core.experiments.tuning.trials import Ledger, has_died, this_worker

SPACE = parse_space({"x": {"type": "float", "low": 0.0, "high": 1.0}}, {"x": 0.5})


@pytest.fixture
def study():
    return optuna.create_study()


@pytest.fixture
def ledger(study):
    return Ledger(study, SPACE, TuningOptions())


@pytest.fixture(scope="module")
def dead_worker():
    code = "from transformer_foundry.core.experiments.tuning.trials import this_worker; print(this_worker())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return ast.literal_eval(output)


def die(ledger, study, trial, dead_worker):
    ledger.study._storage.set_trial_user_attr(trial._trial_id, "worker", dead_worker)
    ledger.recover()
    return study.get_trials()[trial.number]


def test_a_worker_is_alive_until_its_process_ends(dead_worker):
    assert not has_died(this_worker())
    assert has_died(dead_worker)


def test_another_process_with_the_same_id_is_another_worker():
    assert has_died(this_worker() | {"pid": os.getpid(), "start": "1"})


def test_of_a_worker_on_another_machine_nothing_is_known(dead_worker):
    assert not has_died(dead_worker | {"place": "elsewhere"})
    assert not has_died(None)


def test_the_trial_of_a_dead_worker_waits_again_with_its_number_and_curve(ledger, study, dead_worker):
    trial = ledger.begin({"x": 0.25})
    trial.report(3.0, 10)
    recovered = die(ledger, study, trial, dead_worker)
    assert (recovered.state.name, recovered.params, recovered.intermediate_values) == (
        "WAITING",
        {"x": 0.25},
        {10: 3.0},
    )
    assert recovered.user_attrs["sessions"][0]["to"] == 10


def test_a_configuration_that_takes_its_worker_down_again_and_again_is_given_up(ledger, study, dead_worker):
    trial = ledger.begin({"x": 0.25})
    for _ in range(2):
        assert die(ledger, study, trial, dead_worker).state.name == "WAITING"
        trial = ledger.claim(study.get_trials()[0])
    given_up = die(ledger, study, trial, dead_worker)
    assert given_up.state.name == "FAIL"
    assert "ended 3 times without a word" in given_up.user_attrs["error"]


def test_a_trial_that_was_interrupted_politely_is_never_given_up(ledger, study):
    trial = ledger.begin({"x": 0.25})
    for _ in range(5):
        ledger.release(trial._trial_id)
        trial = ledger.claim(study.get_trials()[0])
    assert study.get_trials()[0].user_attrs["attempts"] == 1


def test_a_waiting_trial_is_taken_by_one_worker_only(ledger, study):
    ledger.release(ledger.begin({"x": 0.25})._trial_id)
    waiting = study.get_trials()[0]
    assert ledger.claim(waiting) is not None
    assert Ledger(study, SPACE, TuningOptions()).claim(waiting) is None


def test_of_two_workers_that_begin_one_configuration_the_second_lets_go(ledger, study):
    first, second = ledger.begin({"x": 0.25}), ledger.begin({"x": 0.25})
    assert (first is None, second is None) == (False, True)
    assert len(ledger.finished()) == 0
