import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.strategies.pruners import first_prunable_step, make_pruner, pause_step
from transformer_foundry.core.studies.tuning.strategies.samplers import make_sampler

SHARES = st.floats(0, 1)


@given(st.integers(1, 10_000), SHARES, SHARES)
def test_nothing_is_pruned_before_warm_up_and_margin(max_steps, warmup, prune_after):
    start = first_prunable_step(max_steps, warmup, prune_after)
    assert start >= (warmup + 0.15) * max_steps - 1e-5
    assert start >= prune_after * max_steps - 1e-5


def test_binary_rounding_costs_no_evaluation():
    assert first_prunable_step(200, 0.2, 0.35) == 70


@pytest.fixture
def study():
    """Five complete trials with losses 1 to 5 at steps 10, 20, ..., 100."""
    study = optuna.create_study()
    for loss in range(1, 6):
        curve = {step: float(loss) for step in range(10, 101, 10)}
        study.add_trial(optuna.create_trial(value=float(loss), intermediate_values=curve))
    return study


def prunes(study, step, loss, **options):
    pruner = make_pruner(TuningOptions(max_steps=100, sampler="tpe", **options), longest_warmup_ratio=0.2)
    trial = study.ask()
    trial.report(loss, step)
    return pruner.prune(study, study.get_trials()[trial.number])


def test_a_hopeless_trial_continues_until_the_longest_warm_up_is_over_by_a_margin(study):
    assert [prunes(study, step, loss=99.0) for step in (10, 20, 30, 40)] == [False, False, False, True]


def test_a_trial_within_the_best_quarter_continues(study):
    # The 25th percentile of 1, 2, 3, 4, 5 is 2.
    assert not prunes(study, 50, loss=2.0)
    assert prunes(study, 50, loss=2.1)


def test_a_user_can_prune_later_but_not_earlier(study):
    assert not prunes(study, 50, loss=99.0, prune_after=0.8)
    assert not prunes(study, 30, loss=99.0, prune_after=0.0)


def test_no_pruning_never_prunes(study):
    assert not prunes(study, 100, loss=99.0, pruner="none")


def test_the_median_pruner_keeps_what_beats_the_median(study):
    assert not prunes(study, 50, loss=2.9, pruner="median")


def test_a_threshold_prunes_what_lies_above_it(study):
    assert prunes(study, 50, loss=3.1, pruner="threshold", prune_above=3.0)
    assert not prunes(study, 50, loss=2.9, pruner="threshold", prune_above=3.0)


def test_a_threshold_pruner_without_a_threshold_is_refused():
    with pytest.raises(ParameterError, match="prune_above is null"):
        TuningOptions(sampler="tpe", pruner="threshold")


def test_a_pruner_with_the_strategy_that_pauses_is_refused():
    with pytest.raises(ParameterError, match=r"pruner is median, but tuning\.sampler is pause_resume"):
        TuningOptions(pruner="median")


@pytest.mark.parametrize("single", [{"evals_per_trial": 1}, {"max_steps": 1}])
def test_a_pruner_without_reports_to_judge_by_is_refused(single):
    with pytest.raises(ParameterError, match="pruner is percentile, but a trial is evaluated only at its end"):
        TuningOptions(sampler="tpe", **single)
    TuningOptions(sampler="tpe", pruner="none", **single)


def test_a_trial_is_paused_at_an_evaluation_after_the_warm_up_and_a_margin():
    options = TuningOptions(max_steps=100, evals_per_trial=8)
    assert pause_step(options, longest_warmup_ratio=0.0) == 60
    assert pause_step(TuningOptions(max_steps=80, evals_per_trial=8), 0.0) == 40
    assert pause_step(TuningOptions(max_steps=80, evals_per_trial=8), 0.5) == 60


def test_each_trial_has_its_own_seed():
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    ours = parse_space({"x": {"type": "float", "low": 0.0, "high": 1.0}}, {"x": 0.5})
    options = TuningOptions(sampler="random")
    first = [optuna.create_study(sampler=make_sampler(options, ours, n)).ask(space).params["x"] for n in (0, 1, 0)]
    assert first[0] == first[2] != first[1]
