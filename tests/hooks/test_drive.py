import shutil

import pytest

from tests.hooks.runs import Run, weight_of
from transformer_foundry.core.errors import CheckpointError
from transformer_foundry.core.training.checkpoints import list_checkpoints
from transformer_foundry.hooks.drive import DriveHooks


def make_run(tmp_path, hooks, folder="drive"):
    sections = {"drive": {"folder": str(tmp_path / folder) if folder else None}}
    return Run(tmp_path / "data", hooks, sections=sections)


def train(run, *steps):
    run.begin()
    run.start()
    for step in steps:
        run.progress(step)
        run.checkpoint(step)
    run.end()


def test_checkpoints_are_copied_under_the_name_of_the_run(tmp_path):
    train(make_run(tmp_path, DriveHooks()), 10)
    assert weight_of(tmp_path / "drive" / "gpt" / "checkpoints" / "step-00000010") == 10.0


def test_a_run_whose_folder_is_gone_is_restored_before_it_is_loaded(tmp_path):
    run = make_run(tmp_path, DriveHooks())
    train(run, 10)
    shutil.rmtree(run.folder)
    run.begin(datasets=("previous_run", "training_run"))
    assert run.dataset.load().latest().step == 10


def test_pipelines_without_the_run_restore_nothing(tmp_path):
    run = make_run(tmp_path, DriveHooks())
    train(run, 10)
    shutil.rmtree(run.folder)
    run.begin(datasets=("validation_report",))
    assert not run.folder.exists()


def test_without_a_folder_nothing_is_copied(tmp_path):
    run = make_run(tmp_path, DriveHooks(), folder=None)
    train(run, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_only_the_first_process_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    train(make_run(tmp_path, DriveHooks()), 10)
    assert not (tmp_path / "drive").exists()


def test_what_was_saved_before_an_error_is_copied(tmp_path):
    run = make_run(tmp_path, DriveHooks())
    run.begin()
    run.start()
    run.checkpoint(10)
    run.fail()
    assert len(list_checkpoints(tmp_path / "drive" / "gpt")) == 1


def test_the_same_hooks_serve_several_sessions(tmp_path):
    hooks = DriveHooks()
    train(make_run(tmp_path, hooks), 10)
    run = make_run(tmp_path, hooks)
    run.begin()
    run.start(10)
    run.checkpoint(20)
    run.end()
    assert [path.name for path in list_checkpoints(tmp_path / "drive" / "gpt")] == ["step-00000010", "step-00000020"]


def test_a_copy_that_the_last_session_left_incomplete_is_completed_at_the_start(tmp_path):
    run = make_run(tmp_path, DriveHooks())
    train(run, 10)
    shutil.rmtree(tmp_path / "drive" / "gpt")
    run.begin()
    run.start(10)
    run.end()
    assert weight_of(tmp_path / "drive" / "gpt" / "checkpoints" / "step-00000010") == 10.0


@pytest.mark.parametrize("event", ["end", "fail"])
def test_a_drive_that_cannot_be_written_stops_no_run_with_a_checkpoint(tmp_path, event, caplog):
    run = make_run(tmp_path, DriveHooks())
    run.checkpoint(10)
    (tmp_path / "drive").write_text("a file where the folder should be")
    run.begin()
    run.start(10)
    run.checkpoint(20)
    getattr(run, event)()
    assert weight_of(list_checkpoints(run.folder)[-1]) == 20.0
    assert caplog.text.count("cannot be copied") == 1


def test_a_drive_that_cannot_be_written_is_refused_before_a_run_begins(tmp_path):
    (tmp_path / "drive").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"has no checkpoint(.|\n)*drive\.folder=null"):
        make_run(tmp_path, DriveHooks()).begin()
