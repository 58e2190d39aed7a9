"""The default strategy: what it spends, where it stops, what it resumes."""

import itertools
import math

import numpy as np
import optuna
import pytest

from tests.core.studies.tuning.curves import CurveTrainer
from transformer_foundry.core.studies.tuning import TuningOptions, parse_space, search
from transformer_foundry.core.studies.tuning.paused_checkpoints import PausedCheckpoints
from transformer_foundry.core.studies.tuning.storage import load_study
from transformer_foundry.core.studies.tuning.strategies.candidates import candidates, encode, key_of, spread_out
from transformer_foundry.core.studies.tuning.strategies.gaussian_process import LearningCurveGP
from transformer_foundry.core.studies.tuning.strategies.pause_resume import (
    TrialHistory,
    _indices,
    _Predicted,
    _standardize,
    select_next,
)

RATE = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE = parse_space({"learning_rate": RATE}, {"learning_rate": 1e-1})
UNIT = {"type": "float", "low": 0.0, "high": 1.0}
WIDE = parse_space(
    {"learning_rate": RATE, "beta1": UNIT, "beta2": UNIT}, {"learning_rate": 1e-1, "beta1": 0.9, "beta2": 0.9}
)
MIXED = parse_space(
    {
        "schedule": {"type": "categorical", "choices": ["cosine", "constant"]},
        "floor": {"type": "int", "low": 0, "high": 3, "when": {"schedule": ["cosine"]}},
        "learning_rate": RATE,
    },
    {"schedule": "cosine", "floor": 0, "learning_rate": 1e-3},
)


def run(trainer, storage=None, space=SPACE, checkpoints=None, **options):
    options = {"n_trials": 8, "max_steps": 100, "evals_per_trial": 10, "min_gain": 0.0, **options}
    storage = storage or optuna.storages.InMemoryStorage()
    return list(search(space, trainer, TuningOptions(**options), storage, checkpoints=checkpoints)), load_study(storage)


def test_the_budget_is_spent_to_the_step():
    trainer = CurveTrainer()
    _, study = run(trainer)
    assert trainer.trained_steps == 8 * 100
    assert study.user_attrs["stopped"] == "the budget is spent"


@pytest.fixture(scope="module")
def wide():
    trainer = CurveTrainer()
    return trainer, *run(trainer, space=WIDE, n_trials=16)


def test_more_configurations_are_tried_than_are_trained_in_full(wide):
    trainer, records, study = wide
    assert len(records) < 16 < len(trainer.tried) == len(study.get_trials())


def test_what_is_paused_waits_half_trained_and_what_is_complete_is_not_trained_twice(wide):
    trials = wide[2].get_trials()
    last = {trial.number: max(trial.intermediate_values) for trial in trials}
    states = {trial.number: trial.state.name for trial in trials}
    assert {last[number] for number, state in states.items() if state == "WAITING"} == {50}
    assert {last[number] for number, state in states.items() if state == "COMPLETE"} == {100}


def test_the_default_is_trained_to_its_end_first():
    (first, *_), study = run(CurveTrainer())
    assert (first.number, first.parameters) == (0, {"learning_rate": 1e-1})
    assert study.get_trials()[0].user_attrs["sessions"][0]["to"] == 100


def test_it_comes_close_to_the_best_for_less_than_a_random_search():
    (*_, last), _ = run(CurveTrainer(), n_trials=10)
    assert last.best_loss < 1 + math.exp(-5) + 0.01


def test_it_stops_when_nothing_is_to_be_gained():
    trainer = CurveTrainer()
    _, study = run(trainer, n_trials=60, min_gain=0.01)
    assert "no training is expected to lower the best loss by 1 %" in study.user_attrs["stopped"]
    assert trainer.trained_steps < 30 * 100


def test_it_stops_after_the_time_that_was_given():
    _, study = run(CurveTrainer(), timeout_hours=1e-12)
    assert len(study.get_trials()) == 1
    assert "hours" in study.user_attrs["stopped"]


def test_a_search_in_two_sessions_tries_what_one_session_would():
    whole, halves = CurveTrainer(), CurveTrainer()
    storage, checkpoints = optuna.storages.InMemoryStorage(), PausedCheckpoints()
    run(whole, n_trials=9)
    options = TuningOptions(n_trials=9, max_steps=100, evals_per_trial=10)
    first = search(SPACE, halves, options, storage, checkpoints=checkpoints)
    next(first), next(first)
    first.close()
    run(halves, storage, checkpoints=checkpoints, n_trials=9)
    assert halves.tried == whole.tried


def test_a_trial_whose_state_is_lost_starts_over_and_its_steps_count():
    storage, trainer = optuna.storages.InMemoryStorage(), CurveTrainer()
    run(trainer, storage, n_trials=5)
    _, study = run(trainer, storage, n_trials=8, checkpoints=PausedCheckpoints())
    assert trainer.trained_steps <= 8 * 100
    assert all(trial.value is not None for trial in study.get_trials() if trial.state.name == "COMPLETE")


def test_checkpoints_of_trials_that_have_ended_are_deleted_when_the_search_continues():
    storage, checkpoints = optuna.storages.InMemoryStorage(), PausedCheckpoints()
    _, study = run(CurveTrainer(), storage, checkpoints=checkpoints, n_trials=4)
    for trial in study.get_trials():
        checkpoints.keep(trial.number, 50)
    run(CurveTrainer(), storage, checkpoints=checkpoints, n_trials=4)
    kept = [checkpoints.has(trial.number) for trial in study.get_trials()]
    assert kept == [trial.state.name == "WAITING" for trial in study.get_trials()]


def test_failed_and_diverged_configurations_are_avoided_and_not_tried_again():
    def train(parameters, resume_from=None):
        if parameters["learning_rate"] > 2e-2:
            raise RuntimeError("CUDA out of memory")
        yield from CurveTrainer()(parameters, resume_from)

    records, _ = run(train, space=parse_space({"learning_rate": RATE}, {"learning_rate": 1e-3}), n_trials=12)
    failed = [record for record in records if record.state == "failed"]
    assert failed[0].error == "RuntimeError: CUDA out of memory"
    assert len(failed) <= 5
    assert len({key_of(record.parameters) for record in records}) == len(records)


def test_conditional_and_categorical_dimensions_are_searched():
    def train(parameters, resume_from=None):
        penalty = 0.1 * abs(parameters["floor"] - 2) if "floor" in parameters else 0.5
        for step, loss in CurveTrainer()(parameters, resume_from):
            yield step, loss + penalty

    (*_, last), study = run(train, space=MIXED, n_trials=14)
    assert last.best_loss < 1 + math.exp(-5) + 0.15
    assert all(("floor" in trial.params) == (trial.params["schedule"] == "cosine") for trial in study.get_trials())


def test_the_search_ends_when_every_configuration_was_tried():
    space = parse_space({"learning_rate": {"type": "categorical", "choices": [1e-3, 1e-2]}}, {"learning_rate": 1e-3})
    records, study = run(CurveTrainer(), space=space, n_trials=50)
    assert len(records) == len(study.get_trials()) == 2
    assert study.user_attrs["stopped"] == "every configuration of the space was tried"


@pytest.mark.parametrize("losses", [[5.0, -3.0, 0.0], [1.0, 1.0, 1.0], [math.inf, math.nan, math.inf]])
def test_losses_of_any_size_give_a_decision(losses):
    histories = [TrialHistory(np.array([0.3 * i]), ((0.5, loss),), 0.5, True) for i, loss in enumerate(losses)]
    rng = np.random.default_rng(0)
    choice = select_next(histories, np.array([[0.9]]), np.array([False]), affordable=2.0, rng=rng)
    assert choice is not None


def test_a_training_that_the_budget_does_not_pay_for_is_not_selected():
    histories = [
        TrialHistory(np.array([0.1]), ((0.5, 1.0),), 0.5, True),
        TrialHistory(np.array([0.5]), ((0.5, 2.0),), 1.0, True),
    ]
    rng = np.random.default_rng(0)
    half = select_next(histories, np.array([[0.9]]), np.array([False]), affordable=0.5, rng=rng)
    assert (half.index, half.is_new) == (0, False)
    assert select_next(histories, np.array([[0.9]]), np.array([False]), affordable=0.4, rng=rng) is None


def test_the_index_is_the_loss_at_which_a_training_is_worth_its_price():
    rng = np.random.default_rng(0)
    predicted = _Predicted(rng.normal(size=(3, 4)), rng.uniform(0.1, 2.0, (3, 4)), np.array([0.5, 0.3, 0.2]))
    costs = np.array([0.5, 0.5, 0.75, 0.75])
    indices = _indices(predicted, best=1.0, price=0.1, costs=costs)
    draws = rng.choice(3, 400_000, p=predicted.weights)
    ends = rng.normal(predicted.mean[draws], predicted.deviation[draws])
    assert np.allclose(np.maximum(indices - ends, 0).mean(0), 0.1 * costs, atol=0.005)


def test_the_price_falls_until_a_training_is_worth_it():
    predicted = _Predicted(np.full((1, 1), 1.0), np.full((1, 1), 0.01), np.ones(1))
    # It can be expected to improve by 0.004: 0.25 is too dear, and a 64th of that is not.
    dear, fair, cheap = (_indices(predicted, best=1.0, price=0.25 / n, costs=np.ones(1)) for n in (1, 64, 1024))
    assert np.allclose(dear, fair)
    assert cheap < fair - 0.001


def test_the_model_agrees_with_its_observations_and_is_uncertain_elsewhere():
    seen = np.array([[0.0], [0.5], [1.0]])
    model = LearningCurveGP(np.array([False]), np.random.default_rng(0))
    model.fit(seen, np.ones(3), np.array([1.0, -1.0, 1.0]))
    mean, deviation, weights = model.predict_final(np.array([[0.0], [0.5], [1.0], [0.25]]))
    assert np.allclose(weights @ mean[:, :3], [1.0, -1.0, 1.0], atol=0.2)
    assert (weights @ deviation)[3] > 2 * (weights @ deviation)[:3].max()


def test_the_model_learns_that_slow_starters_end_lower():
    # What ends lowest was worst at half time: the model must follow the ends it has seen.
    x = np.linspace(0, 1, 8)[:, None]
    half, end = x[:, 0], -x[:, 0]
    model = LearningCurveGP(np.array([False]), np.random.default_rng(0))
    features, shares = np.concatenate([x, x[:6]]), np.concatenate([np.full(8, 0.5), np.ones(6)])
    model.fit(features, shares, np.concatenate([half, end[:6]]) * 2)
    mean, _, weights = model.predict_final(x)
    assert np.argmin(weights @ mean) >= 5


@pytest.mark.parametrize("length", [1.0, 5.0, 20.0])
def test_a_dimension_that_some_configurations_lack_leaves_the_covariance_positive(length):
    features = np.append(np.linspace(0, 1, 20), np.nan)[:, None]
    model = LearningCurveGP(np.array([False]), np.random.default_rng(0))
    draw = np.array([[math.log(length), 0.0, 0.0, 0.0, -9.0, -9.0]])
    ends = np.ones(len(features))
    covariance = model._covariance(model._distance(features, features), ends, ends, draw)[0]
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_a_diverged_configuration_is_worse_than_the_only_one_whose_loss_is_known():
    shares, losses = np.array([0.5, 1.0, 0.5]), np.array([3.0, 2.0, math.inf])
    values, _ = _standardize(shares, losses)
    assert values[2] > values[0]


def test_a_search_in_which_everything_diverges_ends_within_its_budget():
    def train(parameters, resume_from=None):
        yield 10, math.nan

    records, study = run(train, n_trials=4)
    assert len(records) <= 8
    assert study.user_attrs["stopped"]


def test_candidates_of_a_small_space_are_all_that_was_not_tried():
    space = parse_space(
        {
            "schedule": {"type": "categorical", "choices": ["cosine", "constant"]},
            "floor": {"type": "int", "low": 0, "high": 3, "when": {"schedule": ["cosine"]}},
        },
        {"schedule": "cosine", "floor": 0},
    )
    tried = [{"schedule": "cosine", "floor": 2}]
    left = candidates(space, tried, [], np.random.default_rng(0))
    wanted = [{"schedule": "cosine", "floor": floor} for floor in (0, 1, 3)] + [{"schedule": "constant"}]
    assert sorted(map(key_of, left)) == sorted(map(key_of, wanted))


def test_a_spread_out_start_covers_every_part_of_each_dimension():
    rates = [point["learning_rate"] for point in spread_out(SPACE, 6, np.random.default_rng(0))]
    places = sorted(int(6 * place) for place in encode(SPACE, [{"learning_rate": rate} for rate in rates])[:, 0])
    assert places == list(range(6))
    assert len(list(itertools.groupby(places))) == 6
