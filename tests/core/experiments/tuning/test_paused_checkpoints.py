import pytest

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.experiments.tuning.paused_checkpoints import FolderStates


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
def states(tmp_path):
    return FolderStates(tmp_path / "paused", 30, write, read)


def test_a_state_is_read_back_by_another_process(states, tmp_path):
    states.keep(3, "abc")
    assert FolderStates(tmp_path / "paused", 30, write, read).get(3) == "abc"


def test_the_worst_states_go_until_the_rest_fit(states):
    for number in range(4):
        states.keep(number, "x" * 10)
    states.trim([2, 0, 3, 1])
    assert [number for number in range(4) if states.has(number)] == [0, 2, 3]


def test_a_damaged_state_is_no_state(states):
    states.keep(0, "damaged")
    assert states.get(0) is None
    assert not states.has(0)


def test_a_full_disk_costs_the_trial_its_state_only(states, caplog):
    assert not states.keep(0, "too large")
    assert "Trial 0 is paused without a checkpoint: The disk is full." in caplog.text
    assert states.get(0) is None


def test_what_has_ended_is_deleted(states, tmp_path):
    states.keep(0, "abc")
    states.drop(0)
    assert list((tmp_path / "paused").iterdir()) == []
