import pytest

from tests.core.studies.tuning.curves import CurveTrainer
from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.studies.tuning import (
    TuningOptions,
    best_trial,
    history_figure,
    importance_figure,
    parallel_figure,
    search,
    timeline_figure,
    trials_table,
)
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.storage import load_study, open_storage

ENTRY = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE = parse_space(
    {"learning_rate": ENTRY, "schedule": {"type": "categorical", "choices": ["cosine", "linear"]}},
    {"learning_rate": 1e-3, "schedule": "cosine"},
)
OPTIONS_OF_ONE = TuningOptions(n_trials=1, max_steps=100)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    storage = open_storage(tmp_path_factory.mktemp("study") / "study.db")
    trainer = CurveTrainer()
    options = TuningOptions(n_trials=8, max_steps=100, evals_per_trial=10, min_gain=0.0)
    records = list(search(SPACE, trainer, options, storage))
    return load_study(storage), records, trainer


def test_the_table_has_a_row_for_each_trial_and_accounts_for_every_step(searched):
    study, records, trainer = searched
    table = trials_table(study)
    names = ["number", "state", "loss", "steps", "steps_trained", "seconds", "learning_rate", "schedule", "error"]
    assert list(table.columns) == names
    assert set(table["state"]) == {"complete", "paused"}
    assert sorted(table[table["state"] == "complete"]["number"]) == sorted(record.number for record in records)
    assert table["steps_trained"].sum() == trainer.trained_steps == 800


def test_the_best_trial_is_that_of_the_lowest_complete_loss(searched):
    study, records, _ = searched
    assert best_trial(study).params == min(records, key=lambda record: record.loss).parameters


def test_a_study_without_a_complete_trial_has_no_best(tmp_path):
    storage = open_storage(tmp_path / "study.db")
    list(search(SPACE, lambda parameters, resume_from=None: (p for p in [(1, float("nan"))]), OPTIONS_OF_ONE, storage))
    with pytest.raises(TuningError, match="None of the 1 trials of the study is complete: the validation loss is nan"):
        best_trial(load_study(storage))


def test_the_history_shows_every_loss_and_the_best_so_far(searched):
    study, records, _ = searched
    shown = {trace.name: list(trace.y) for trace in history_figure(study).data}
    complete = [record.loss for record in sorted(records, key=lambda record: record.number)]
    assert shown["complete"] == complete
    assert shown["best so far"] == [min(complete[: count + 1]) for count in range(len(complete))]
    assert shown["paused"]


def test_the_parameter_that_matters_is_the_most_important(searched):
    (bars,) = importance_figure(searched[0]).data
    assert bars.y[-1] == "learning_rate"


def test_the_parallel_coordinates_have_an_axis_for_each_parameter_and_the_loss(searched):
    (lines,) = parallel_figure(searched[0], SPACE).data
    assert [axis.label for axis in lines.dimensions] == ["learning_rate", "schedule", "loss"]


def test_the_timeline_is_without_gaps_and_says_what_was_saved(searched):
    study = searched[0]
    figure = timeline_figure(study, max_steps=100)
    bars = sorted((base, length) for trace in figure.data for base, length in zip(trace.base, trace.x, strict=True))
    assert [base for base, _ in bars] == [sum(length for _, length in bars[:index]) for index in range(len(bars))]
    n_trials = len(trials_table(study))
    assert figure.layout.title.text.startswith(
        f"800 steps for {n_trials} configurations: {100 * n_trials - 800} fewer than {100 * n_trials}"
    )


def test_figures_of_a_single_trial_can_be_drawn(tmp_path):
    storage = open_storage(tmp_path / "study.db")
    list(search(SPACE, CurveTrainer(), OPTIONS_OF_ONE, storage))
    study = load_study(storage)
    assert "4 complete trials" in importance_figure(study).layout.annotations[0].text
    assert timeline_figure(study, 100).data
    assert parallel_figure(study, SPACE).data
