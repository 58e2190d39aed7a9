import pytest

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.studies.tuning.paused_checkpoints import FolderCheckpoints


def write(folder, state):
    if state == "too large":
        raise CheckpointError("The disk is full.")
    folder.mkdir(parents=True)
    (folder / "state").write_text(state)


def read(folder):
    text = (folder / "state").read_text()
    if text == "damaged":
        raise CheckpointError("The checkpoint is damaged.")
    return text


@pytest.fixture
def checkpoints(tmp_path):
    return FolderCheckpoints(tmp_path / "paused", 30, write, read)


def test_a_state_is_read_back_by_another_process(checkpoints, tmp_path):
    checkpoints.keep(3, "abc")
    assert FolderCheckpoints(tmp_path / "paused", 30, write, read).get(3) == "abc"


def test_the_worst_checkpoints_are_deleted_until_the_rest_fit(checkpoints):
    for number in range(4):
        checkpoints.keep(number, "x" * 10)
    checkpoints.trim([2, 0, 3, 1])
    assert [number for number in range(4) if checkpoints.has(number)] == [0, 2, 3]


def test_a_damaged_state_counts_as_missing(checkpoints):
    checkpoints.keep(0, "damaged")
    assert checkpoints.get(0) is None
    assert not checkpoints.has(0)


def test_a_full_disk_costs_the_trial_its_state_only(checkpoints, caplog):
    assert not checkpoints.keep(0, "too large")
    assert "Trial 0 is paused without a checkpoint: The disk is full." in caplog.text
    assert checkpoints.get(0) is None


def test_the_checkpoint_of_a_trial_that_has_ended_is_deleted(checkpoints, tmp_path):
    checkpoints.keep(0, "abc")
    checkpoints.drop(0)
    assert list((tmp_path / "paused").iterdir()) == []
