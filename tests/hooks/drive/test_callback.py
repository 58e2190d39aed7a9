import os
import shutil

import pytest
from kedro.framework.project import pipelines

from tests.hooks.runs import Run, weight_of
from transformer_foundry.config import drive_folder
from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training.checkpointing.directory import find_checkpoint, list_checkpoints, step_of
from transformer_foundry.hooks import ReportCallback
from transformer_foundry.hooks.drive import checkpoint_sync, mount
from transformer_foundry.hooks.drive.callback import DriveCallback

OURS = "transformer_foundry.datasets"


def make_run(tmp_path, *hooks, folder="drive"):
    sections = {"drive": {"folder": str(tmp_path / folder) if folder else None}}
    return Run(tmp_path / "data", *hooks, sections=sections)


def train(run, *steps):
    run.begin()
    run.start()
    for step in steps:
        run.progress(step)
        run.checkpoint(step)
    run.end()


def test_checkpoints_are_copied_under_the_name_of_the_run(tmp_path):
    train(make_run(tmp_path, DriveCallback()), 10)
    assert weight_of(find_checkpoint(tmp_path / "drive" / "gpt", 10)) == 10.0


def test_a_run_whose_folder_is_gone_is_restored_before_it_is_loaded(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    train(run, 10)
    shutil.rmtree(run.folder)
    run.begin(inputs=("previous_run",))
    assert run.dataset.load().latest().step == 10


def test_pipelines_without_the_run_restore_nothing(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    train(run, 10)
    shutil.rmtree(run.folder)
    run.begin(outputs=("validation_report",))
    assert not run.folder.exists()


def test_without_a_folder_nothing_is_copied(tmp_path):
    run = make_run(tmp_path, DriveCallback(), folder=None)
    train(run, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_only_the_first_process_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    train(make_run(tmp_path, DriveCallback()), 10)
    assert not (tmp_path / "drive").exists()


def test_what_was_saved_before_an_error_is_copied(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    run.begin()
    run.start()
    run.checkpoint(10)
    run.fail()
    assert len(list_checkpoints(tmp_path / "drive" / "gpt")) == 1


def test_the_same_hooks_serve_several_sessions(tmp_path):
    hooks = DriveCallback()
    train(make_run(tmp_path, hooks), 10)
    run = make_run(tmp_path, hooks)
    run.begin()
    run.start(10)
    run.checkpoint(20)
    run.end()
    assert [step_of(path) for path in list_checkpoints(tmp_path / "drive" / "gpt")] == [10, 20]


def test_a_copy_that_the_last_session_left_incomplete_is_completed_at_the_start(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    train(run, 10)
    shutil.rmtree(tmp_path / "drive" / "gpt")
    run.begin()
    run.start(10)
    run.end()
    assert weight_of(find_checkpoint(tmp_path / "drive" / "gpt", 10)) == 10.0


@pytest.mark.parametrize("event", ["end", "fail"])
def test_a_drive_that_cannot_be_written_stops_no_run_with_a_checkpoint(tmp_path, event, caplog):
    run = make_run(tmp_path, DriveCallback())
    run.checkpoint(10)
    (tmp_path / "drive").write_text("a file where the folder should be")
    run.begin()
    run.start(10)
    run.checkpoint(20)
    getattr(run, event)()
    assert weight_of(list_checkpoints(run.folder)[-1]) == 20.0
    assert caplog.text.count("can be copied") == 1


def test_a_drive_that_cannot_be_written_is_refused_before_a_run_begins(tmp_path):
    (tmp_path / "drive").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"has no checkpoint(.|\n)*drive\.folder=null"):
        make_run(tmp_path, DriveCallback()).begin()


def test_one_failed_call_does_not_keep_a_checkpoint_from_being_restored(tmp_path, monkeypatch):
    run = make_run(tmp_path, DriveCallback())
    train(run, 10)
    shutil.rmtree(run.folder)
    calls = iter([OSError(5, "Input/output error")])
    real = checkpoint_sync.copy_checkpoint

    def flaky(*places):
        for error in calls:
            raise error
        real(*places)

    monkeypatch.setattr(checkpoint_sync, "copy_checkpoint", flaky)
    run.begin()
    assert weight_of(find_checkpoint(run.folder, 10)) == 10.0


@pytest.fixture
def unmounted(tmp_path, monkeypatch):
    """A run whose copy is on a Drive that is not mounted."""
    monkeypatch.setattr(mount, "COLAB_MOUNT", tmp_path / "content" / "drive")
    return make_run(tmp_path, DriveCallback(), folder="content/drive/MyDrive/foundry")


def test_a_drive_that_is_not_mounted_is_refused_for_a_run_without_a_checkpoint(unmounted, tmp_path):
    with pytest.raises(CheckpointError, match=r"Google Drive is not mounted(.|\n)*drive\.folder=null"):
        unmounted.begin()
    assert not (tmp_path / "content").exists()


def test_a_drive_that_is_not_mounted_is_an_outage_for_a_run_with_a_checkpoint(unmounted, tmp_path, caplog):
    unmounted.checkpoint(10)
    train(unmounted, 20)
    assert caplog.text.count("Google Drive is not mounted") == 1
    assert "not copied to Drive" in caplog.text
    assert not (tmp_path / "content").exists()


def test_a_drive_that_comes_back_takes_the_lease_and_the_checkpoints(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    run.checkpoint(10)
    (tmp_path / "drive").write_text("a file where the folder should be")
    run.begin()
    run.start(10)
    (tmp_path / "drive").unlink()
    run.checkpoint(20)
    run.end()
    assert weight_of(find_checkpoint(tmp_path / "drive" / "gpt", 20)) == 20.0


@pytest.mark.parametrize("call", ["list", "write"])
def test_a_copy_that_cannot_be_read_or_written_is_refused_before_training(tmp_path, monkeypatch, call):
    copy = tmp_path / "drive" / "gpt"

    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    owner, name = checkpoint_sync, "newest_checkpoint" if call == "list" else "check_writable"
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda path, *rest: (fail if copy in (path, path.parent) else real)(path, *rest))
    with pytest.raises(CheckpointError, match="Input/output error"):
        make_run(tmp_path, DriveCallback()).begin()


def test_files_beside_the_run_are_copied_and_restored(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    path = run.data_dir / "05_model_input" / "gpt" / "tokenizer"
    run.files["tokenizer"] = {"type": f"{OURS}.TokenizerDataset", "filepath": str(path)}
    run.begin(outputs=("tokenizer",))
    path.mkdir(parents=True)
    (path / "tokenizer.json").write_text("{}")
    run.show("tokenizer", object())
    run.end()
    shutil.rmtree(run.data_dir)
    run.begin(inputs=("tokenizer",), outputs=())
    assert (path / "tokenizer.json").read_text() == "{}"


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path):
    first, second = make_run(tmp_path, DriveCallback()), make_run(tmp_path, DriveCallback())
    first.begin()
    with pytest.raises(CheckpointError, match=rf"is being trained by another process: process {os.getpid()}"):
        second.begin()
    first.end()
    second.begin()


def test_an_interrupted_session_releases_the_run_for_the_next_of_its_kernel(tmp_path):
    run = make_run(tmp_path, DriveCallback())
    run.begin()
    run.begin()  # is not refused, but holds the run
    with pytest.raises(CheckpointError, match="is being trained by another process"):
        make_run(tmp_path, DriveCallback()).begin()


def test_drive_is_found_where_it_is_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(drive_folder, "COLAB_MOUNT", tmp_path)
    (tmp_path / "MyDrive").mkdir()
    assert find_folder("auto") is None
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path)
    assert find_folder("auto") == tmp_path / "MyDrive" / "transformer-foundry"


def test_the_report_that_a_command_ends_with_is_copied_too(tmp_path):
    report = tmp_path / "data" / "08_reporting" / "gpt" / "report.html"
    for end in (Run.end, Run.fail):
        run = make_run(tmp_path, DriveCallback(), ReportCallback())
        run.begin()
        run.start()
        end(run)
        copies = sorted((tmp_path / "drive" / "files" / report.relative_to(run.data_dir)).iterdir())
        assert (copies[-1] / "report.html").read_bytes() == report.read_bytes()
        report.unlink()


def test_reports_of_earlier_commands_are_restored_with_what_a_pipeline_reads(tmp_path):
    pipelines.configure("transformer_foundry.pipeline_registry")
    run = make_run(tmp_path, DriveCallback())
    path = run.data_dir / "08_reporting" / "gpt" / "evaluation.json"
    run.files["evaluation"] = {"type": "json.JSONDataset", "filepath": str(path)}
    run.begin(outputs=("evaluation",))
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    run.show("evaluation", {"step": 1, "validation": {}, "comparisons": []})
    run.end()
    shutil.rmtree(run.data_dir)
    run.begin(outputs=("evaluation",))
    assert not path.exists()  # it is made anew
    run.begin(outputs=("model_package",))
    assert path.read_text() == "{}"
