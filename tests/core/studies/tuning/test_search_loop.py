import math
from itertools import islice

import optuna
import pytest

from tests.core.studies.tuning.curves import CurveTrainer, curve_loss
from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.search_loop import search
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.storage import load_study, open_storage
from transformer_foundry.core.studies.tuning.strategies import samplers

ENTRY = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE = parse_space({"learning_rate": ENTRY}, {"learning_rate": 1e-3})
FAR_FROM_DEFAULT = parse_space({"learning_rate": ENTRY}, {"learning_rate": 1e-1})


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "study.db")


def in_memory():
    return optuna.storages.InMemoryStorage()


def run(storage, trainer, *, space=SPACE, identity=None, **options):
    options = {"max_steps": 100, "sampler": "tpe", **options}
    return list(search(space, trainer, TuningOptions(**options), storage, identity=identity))


def test_the_default_configuration_is_tried_first(storage):
    records = run(storage, CurveTrainer(), n_trials=2)
    assert records[0].parameters == {"learning_rate": 1e-3}


def test_a_complete_trial_is_recorded_with_its_curve(storage):
    (record,) = run(storage, CurveTrainer(steps=100, every=50), n_trials=1)
    assert (record.state, record.steps, record.is_best) == ("complete", 100, True)
    assert record.curve == ((50, curve_loss(1e-3, 50)), (100, curve_loss(1e-3, 100)))
    assert record.loss == record.best_loss == curve_loss(1e-3, 100)


@pytest.mark.parametrize("sampler", ["pause_resume", "tpe", "random", "nsgaii", "nsgaiii"])
def test_any_sampler_searches_and_comes_closer_than_the_default(sampler):
    records = run(in_memory(), CurveTrainer(), n_trials=12, sampler=sampler, space=FAR_FROM_DEFAULT)
    assert records[-1].best_loss < records[0].loss


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_a_sampler_that_tries_everything_ends_with_it(sampler):
    space = parse_space({"learning_rate": {"type": "categorical", "choices": [1e-3, 1e-2]}}, {"learning_rate": 1e-3})
    records = run(in_memory(), CurveTrainer(), n_trials=20, sampler=sampler, space=space)
    assert {record.parameters["learning_rate"] for record in records} == {1e-3, 1e-2}
    assert len(records) <= 3


@pytest.mark.parametrize("pruner", ["percentile", "median", "successive_halving", "hyperband", "patient", "threshold"])
def test_no_pruner_stops_a_trial_early(pruner):
    records = run(in_memory(), CurveTrainer(), n_trials=15, pruner=pruner, prune_above=2.0)
    assert all(record.steps >= 40 for record in records)


def test_a_sampler_whose_library_is_missing_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(samplers.NEEDED, "gp", "no_such_library")
    with pytest.raises(TuningError, match="gp, which needs the library no_such_library"):
        run(in_memory(), CurveTrainer(), n_trials=2, sampler="gp")


def test_a_sampler_that_tries_everything_refuses_a_range():
    with pytest.raises(TuningError, match="grid, but learning_rate can take any value"):
        run(in_memory(), CurveTrainer(), n_trials=2, sampler="grid")


def test_the_search_comes_close_to_the_best_configuration():
    records = run(in_memory(), CurveTrainer(), n_trials=30)
    assert records[-1].best_loss < 1 + math.exp(-5) + 0.02


def test_pruning_saves_steps_and_keeps_the_best():
    pruned, unpruned = CurveTrainer(), CurveTrainer()
    best = run(in_memory(), pruned, n_trials=20)[-1].best_loss
    best_unpruned = run(in_memory(), unpruned, n_trials=20, pruner="none")[-1].best_loss
    assert pruned.trained_steps < 0.8 * unpruned.trained_steps
    assert best <= best_unpruned + 0.05


def test_the_best_so_far_is_the_lowest_complete_loss():
    records = run(in_memory(), CurveTrainer(), n_trials=12)
    best = math.inf
    for record in records:
        if record.state == "complete":
            assert record.is_best == (record.loss < best)
            best = min(best, record.loss)
        assert record.best_loss == best


def test_the_number_of_trials_counts_the_whole_study(storage):
    assert len(run(storage, CurveTrainer(), n_trials=3)) == 3
    assert [record.number for record in run(storage, CurveTrainer(), n_trials=5)] == [3, 4]
    assert run(storage, CurveTrainer(), n_trials=5) == []


def test_a_search_in_two_sessions_tries_what_one_session_would(tmp_path):
    whole, halves = CurveTrainer(every=50), CurveTrainer(every=50)
    run(in_memory(), whole, n_trials=12)
    path = tmp_path / "study.db"
    list(islice(search(SPACE, halves, TuningOptions(n_trials=12, max_steps=100, sampler="tpe"), open_storage(path)), 5))
    run(open_storage(path), halves, n_trials=12)
    assert halves.tried == whole.tried


def test_a_trial_that_raises_is_a_result_and_the_search_continues(storage):
    def train(parameters, resume_from=None):
        if parameters["learning_rate"] != 1e-3:
            raise RuntimeError("CUDA out of memory:\n tried 2 GiB")
        yield 100, 1.0

    records = run(storage, train, n_trials=3)
    assert [record.state for record in records] == ["complete", "failed", "failed"]
    assert records[1].error == "RuntimeError: CUDA out of memory: tried 2 GiB"


def test_a_trial_that_diverges_is_pruned_with_its_reason(storage):
    def train(parameters, resume_from=None):
        yield 10, 2.0
        yield 20, math.nan
        raise AssertionError("trained on after the loss was lost")

    (record,) = run(storage, train, n_trials=1)
    assert (record.state, record.loss) == ("pruned", None)
    assert record.error == "the validation loss is nan at step 20"


def test_a_trial_without_reports_is_a_failure(storage):
    with pytest.raises(TuningError, match="reported no validation loss"):
        run(storage, lambda parameters, resume_from=None: (pair for pair in ()), n_trials=1)


def test_a_search_whose_first_trials_all_fail_ends_with_the_first_cause(storage):
    def train(parameters, resume_from=None):
        raise ValueError(f"cause {len(storage.get_all_trials(1))}")
        yield

    with pytest.raises(TuningError, match="All 3 trials of the search failed; the first with ValueError: cause 1"):
        run(storage, train, n_trials=8)


def test_another_space_is_refused_with_what_differs(storage):
    run(storage, CurveTrainer(), n_trials=1)
    other = parse_space({"learning_rate": {**ENTRY, "high": 0.5}}, {"learning_rate": 1e-3})
    with pytest.raises(TuningError, match=r"space\.learning_rate\.high was 0\.1 and is 0\.5.*\n.*\n.*run\.name=NEW"):
        run(storage, CurveTrainer(), space=other, n_trials=2)


def test_another_model_is_refused(storage):
    run(storage, CurveTrainer(), n_trials=1, identity={"model": "abc"})
    with pytest.raises(TuningError, match='model was "abc" and is "def"'):
        run(storage, CurveTrainer(), n_trials=2, identity={"model": "def"})


def test_another_length_of_trials_is_refused(storage):
    run(storage, CurveTrainer(), n_trials=1)
    with pytest.raises(TuningError, match="max_steps was 100 and is 200"):
        run(storage, CurveTrainer(), n_trials=2, max_steps=200)


def test_an_interrupt_puts_the_running_trial_back_into_the_queue(storage):
    def stopped(parameters, resume_from=None):
        yield 10, 2.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(storage, stopped, n_trials=1)
    trainer = CurveTrainer()
    (record,) = run(storage, trainer, n_trials=1)
    assert record.state == "complete"
    assert trainer.tried == [{"learning_rate": 1e-3}]


def test_a_trial_that_another_worker_has_ended_is_left_to_it(storage):
    def train(parameters, resume_from=None):
        study = load_study(storage)
        if len(study.get_trials()) == 1:
            study.tell(0, 7.0)
        yield 100, 1.0

    assert [record.number for record in run(storage, train, n_trials=2)] == [1]
    assert load_study(storage).get_trials()[0].value == 7.0


def test_a_storage_that_fails_is_an_error_and_not_a_failed_trial(storage, tmp_path):
    def train(parameters, resume_from=None):
        (tmp_path / "study.db").write_bytes(b"damaged" * 1000)
        yield 100, 1.0

    with pytest.raises(TuningError, match=r"study\.db cannot be used"):
        run(storage, train, n_trials=2)
