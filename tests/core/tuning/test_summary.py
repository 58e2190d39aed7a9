import pytest

from tests.core.tuning.curves import CurveTrainer
from transformer_foundry.core.errors import TuningError
from transformer_foundry.core.tuning.figures import history_figure
from transformer_foundry.core.tuning.loop import search
from transformer_foundry.core.tuning.options import TuningOptions
from transformer_foundry.core.tuning.space import parse_space
from transformer_foundry.core.tuning.storage import load_study, open_storage
from transformer_foundry.core.tuning.summary import summarise

ENTRY = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE = parse_space({"learning_rate": ENTRY}, {"learning_rate": 1e-3})


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    storage = open_storage(tmp_path_factory.mktemp("study") / "study.db")
    records = list(search(SPACE, CurveTrainer(), TuningOptions(n_trials=12, max_steps=100), storage))
    return load_study(storage), records


def test_the_table_has_a_row_for_each_finished_trial(searched):
    study, records = searched
    table, _ = summarise(study)
    assert list(table.columns) == ["number", "state", "loss", "steps", "seconds", "learning_rate", "error"]
    assert table["state"].tolist() == [record.state for record in records]
    assert table["loss"].tolist() == [record.loss for record in records]


def test_the_best_parameters_are_those_of_the_lowest_complete_loss(searched):
    study, records = searched
    best = min((record for record in records if record.state == "complete"), key=lambda record: record.loss)
    assert summarise(study)[1] == dict(best.parameters)


def test_a_study_without_a_complete_trial_has_no_summary(tmp_path):
    storage = open_storage(tmp_path / "study.db")
    search_options = TuningOptions(n_trials=1)
    list(search(SPACE, lambda parameters, resume_from=None: (p for p in [(1, float("nan"))]), search_options, storage))
    with pytest.raises(TuningError, match="None of the 1 trials of the study is complete: the validation loss is nan"):
        summarise(load_study(storage))


def test_the_history_figure_shows_every_loss_and_the_best_so_far(searched):
    study, records = searched
    figure = history_figure(study)
    shown = {trace.name: list(trace.y) for trace in figure.data}
    complete = [record.loss for record in records if record.state == "complete"]
    assert shown["complete"] == complete
    assert shown["best so far"] == [min(complete[: count + 1]) for count in range(len(complete))]
    assert len(shown["pruned"]) == len(records) - len(complete)
