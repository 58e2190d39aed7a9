import itertools

import pytest
from kedro.io import DatasetError

from tests.core.studies.tuning.curves import CurveTrainer
from transformer_foundry.core.base.errors import TuningError, find_foundry_error
from transformer_foundry.core.studies.tuning import TrialResult, TuningOptions, parse_space, search
from transformer_foundry.datasets.study import StudyDataset

ENTRY = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE = parse_space({"learning_rate": ENTRY}, {"learning_rate": 1e-3})


@pytest.fixture
def dataset(tmp_path):
    return StudyDataset(filepath=str(tmp_path / "run" / "study.db"))


def test_a_search_through_the_dataset_can_be_read_back(dataset):
    for record in search(
        SPACE, CurveTrainer(), TuningOptions(n_trials=3, max_steps=100, sampler="tpe"), dataset.load().storage()
    ):
        dataset.save(record)
    assert [trial.state.name for trial in dataset.load().study().get_trials()] == ["COMPLETE"] * 3


def test_loading_opens_nothing(dataset):
    dataset.load()
    assert not dataset.path.parent.exists()
    assert not dataset.exists()


def test_a_result_of_a_trial_that_is_not_stored_is_refused(dataset):
    list(search(SPACE, CurveTrainer(), TuningOptions(n_trials=1), dataset.load().storage()))
    stray = TrialResult(7, "complete", {}, 1.0, 100, 1.0, is_best=True, best_loss=1.0)
    with pytest.raises(DatasetError, match="Trial 7 is not in the study"):
        dataset.save(stray)


def test_a_file_without_a_study_says_what_to_run(dataset):
    with pytest.raises(TuningError, match="kedro run --pipelines tuning") as caught:
        dataset.load().study()
    assert find_foundry_error(caught.value)


def test_describing_names_the_file(dataset):
    assert str(dataset.path) in str(dataset)


def test_a_url_takes_the_place_of_the_file(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    shared = StudyDataset(filepath=str(tmp_path / "run" / "study.db"), storage=url, study_name="gpt")
    options = TuningOptions(n_trials=1, max_steps=100)
    list(search(SPACE, CurveTrainer(), options, shared.load().storage(), study_name="gpt"))
    assert shared.load().study().study_name == "gpt"
    assert not shared.path.exists()


def test_a_study_exists_when_its_search_has_ended(dataset):
    def run(n_trials, stop_after):
        found = search(
            SPACE,
            CurveTrainer(),
            TuningOptions(n_trials=n_trials, max_steps=100, sampler="tpe"),
            dataset.load().storage(),
        )
        for _ in itertools.islice(found, stop_after):
            pass

    run(3, 1)
    assert (dataset.exists(), dataset.is_readable()) == (False, True)
    run(3, None)
    assert dataset.exists()
    run(5, 1)
    assert not dataset.exists()
    run(5, None)
    assert dataset.exists()


def test_a_damaged_study_is_an_error_in_words(dataset):
    dataset.path.parent.mkdir(parents=True)
    dataset.path.write_bytes(b"no database")
    with pytest.raises(DatasetError) as caught:
        dataset.exists()
    assert isinstance(find_foundry_error(caught.value), TuningError)


def test_a_password_is_shown_nowhere(tmp_path):
    url = "postgresql+psycopg2://alice:s3cr3t@host/name"
    shared = StudyDataset(filepath=str(tmp_path / "study.db"), storage=url)
    assert "s3cr3t" not in repr(shared) + repr(shared.load())
