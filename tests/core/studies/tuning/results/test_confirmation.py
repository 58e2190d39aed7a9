import math

import optuna
import pytest

from transformer_foundry.core.studies.tuning import TuningOptions, confirm, parse_space, search

SPACE = parse_space({"x": {"type": "float", "low": 0.0, "high": 1.0}}, {"x": 0.0})


def study_of(loss, n_trials=6):
    storage = optuna.storages.InMemoryStorage()
    options = TuningOptions(n_trials=n_trials, max_steps=10, evals_per_trial=2)

    def train(parameters, resume_from=None):
        yield from ((step, loss(parameters["x"])) for step in (5, 10) if step > (resume_from or 0))

    list(search(SPACE, train, options, storage))
    return optuna.load_study(study_name="search", storage=storage)


@pytest.fixture
def falling():
    """A study in which a larger x is better; its default is the worst."""
    return study_of(lambda x: 2 - x)


def confirmed(study, train, n_seeds=3):
    return confirm(study, train, steps=100, n_seeds=n_seeds, first_seed=1)


def test_a_winner_that_wins_in_full_is_used_with_its_margin(falling):
    best, comparison = confirmed(falling, lambda parameters, seed: 2 - parameters["x"] + 0.01 * seed)
    assert best["parameters"] == falling.best_params
    assert comparison["is_better"]
    assert comparison["difference"] == pytest.approx(falling.best_params["x"])
    assert comparison["standard_error"] == pytest.approx(0, abs=1e-12)
    assert comparison["seeds"] == [1, 2, 3]


def test_the_default_replaces_a_winner_that_loses_in_full(falling):
    best, comparison = confirmed(falling, lambda parameters, seed: parameters["x"])
    assert best["parameters"] == {"x": 0.0}
    assert comparison["is_better"] is False
    assert comparison["verdict"].startswith("The winner is worse than the default configuration: ")
    assert "nats higher after 100 steps (standard error 0.0000, 3 seeds)" in comparison["verdict"]


def test_the_default_replaces_a_winner_that_diverges_in_full(falling):
    best, comparison = confirmed(falling, lambda parameters, seed: math.nan if parameters["x"] > 0 else 1.0)
    assert best["parameters"] == {"x": 0.0}
    assert "a training diverged" in comparison["verdict"]


def test_the_uncertainty_is_the_standard_error_of_the_paired_differences(falling):
    differences = {1: 0.3, 2: -0.1, 3: 0.1}
    _, comparison = confirmed(
        falling, lambda parameters, seed: 5.0 - (differences[seed] if parameters["x"] > 0 else 0.0)
    )
    assert comparison["difference"] == pytest.approx(0.1)
    assert comparison["standard_error"] == pytest.approx(0.2 / math.sqrt(3))
    assert comparison["is_better"] is None
    assert "cannot be distinguished from" in comparison["verdict"]


def test_if_the_default_is_the_best_nothing_is_trained():
    def train(parameters, seed):
        raise AssertionError("trained")

    best, comparison = confirmed(study_of(lambda x: 1 + x), train)
    assert best["parameters"] == {"x": 0.0}
    assert "nothing that was tried beats it" in comparison["verdict"]


def test_an_interrupted_comparison_trains_no_seed_twice(falling):
    paid = []

    def train(parameters, seed):
        if len(paid) == 3:
            paid.append("interrupt")
            raise KeyboardInterrupt
        paid.append((parameters["x"], seed))
        return 2 - parameters["x"]

    with pytest.raises(KeyboardInterrupt):
        confirmed(falling, train)
    confirmed(falling, train)
    paid.remove("interrupt")
    assert len(paid) == len(set(paid)) == 6
