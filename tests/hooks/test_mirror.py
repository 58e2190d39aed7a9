import logging
import shutil
import threading
from pathlib import Path

import pytest

from tests.hooks.runs import Run, make_checkpoint, weight_of
from transformer_foundry.core.errors import CheckpointError
from transformer_foundry.core.training.checkpoints import list_checkpoints, verify_checkpoint
from transformer_foundry.hooks import mirror as mirror_module
from transformer_foundry.hooks.mirror import Mirror


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "data")
    run.start()
    return run


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "drive" / "gpt"


def steps(folder):
    return [int(path.name[5:]) for path in list_checkpoints(folder)]


def mirrored(run, copy, *up_to):
    """A mirror that has copied checkpoints of these steps."""
    mirror = Mirror(run.folder, copy)
    for step in up_to:
        run.progress(step)
        run.checkpoint(step)
        mirror.request()
    mirror.request()
    assert mirror.finish(timeout_s=60)
    return mirror


def damage(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_copy_verifies_and_holds_the_same_weights(run, copy):
    mirrored(run, copy, 10)
    (folder,) = list_checkpoints(copy)
    verify_checkpoint(folder)
    assert weight_of(folder) == 10.0


def test_the_files_of_the_run_are_copied_too(run, copy):
    mirrored(run, copy, 10)
    for name in ("manifest.json", "metrics.jsonl"):
        assert (copy / name).read_bytes() == (run.folder / name).read_bytes()


def test_copies_that_the_run_no_longer_keeps_are_deleted(run, copy):
    mirrored(run, copy, 10, 20, 30, 40)
    assert steps(copy) == steps(run.folder) == [30, 40]


def test_the_newest_two_copies_stay_when_the_run_keeps_one(tmp_path, copy):
    run = Run(tmp_path / "other", keep=1)
    run.start()
    mirrored(run, copy, 10)
    mirrored(run, copy, 20)
    assert (steps(run.folder), steps(copy)) == ([20], [10, 20])


def test_a_copy_newer_than_the_run_is_never_deleted(run, copy, tmp_path):
    other = Run(tmp_path / "other")
    other.start()
    mirrored(other, copy, 90)
    mirrored(run, copy, 10, 20)
    assert 90 in steps(copy)


def test_a_run_whose_folder_is_gone_is_restored(run, copy):
    mirrored(run, copy, 10, 20)
    metrics = (run.folder / "metrics.jsonl").read_bytes()
    shutil.rmtree(run.folder)
    sentence = Mirror(run.folder, copy).restore()
    assert sentence.startswith("Restored step 20 from")
    assert weight_of(list_checkpoints(run.folder)[-1]) == 20.0
    assert (run.folder / "metrics.jsonl").read_bytes() == metrics


def test_the_best_checkpoint_is_restored_with_the_newest(run, copy):
    best, newest = make_checkpoint(10), make_checkpoint(20)
    newest.state.counters.best_step = 10
    for checkpoint in (best, newest):
        run.save(checkpoint)
    mirror = Mirror(run.folder, copy)
    mirror.request()
    assert mirror.finish(timeout_s=60)
    shutil.rmtree(run.folder)
    Mirror(run.folder, copy).restore()
    assert steps(run.folder) == [10, 20]


def test_a_run_that_is_as_new_as_its_copy_is_left_alone(run, copy):
    mirrored(run, copy, 10)
    assert Mirror(run.folder, copy).restore() is None


def test_a_run_that_is_older_than_its_copy_goes_on_from_the_copy(run, copy):
    mirrored(run, copy, 10, 20)
    shutil.rmtree(run.folder / "checkpoints" / "step-00000020")
    assert Mirror(run.folder, copy).restore().endswith("had step 10.")
    assert steps(run.folder) == [10, 20]


def test_a_damaged_checkpoint_of_the_run_is_set_aside_for_its_copy(run, copy):
    mirrored(run, copy, 10, 20)
    damage(run.folder / "checkpoints" / "step-00000020")
    Mirror(run.folder, copy).restore()
    verify_checkpoint(run.folder / "checkpoints" / "step-00000020")
    assert (run.folder / "checkpoints" / "aside-1-step-00000020").is_dir()


def test_a_damaged_copy_is_passed_over_by_name(run, copy, caplog):
    mirrored(run, copy, 10, 20)
    shutil.rmtree(run.folder)
    damage(copy / "checkpoints" / "step-00000020")
    assert "Restored step 10" in Mirror(run.folder, copy).restore()
    assert "step-00000020 is damaged" in caplog.text


def test_nothing_to_go_on_from_but_damaged_copies_is_refused(run, copy):
    mirrored(run, copy, 10)
    shutil.rmtree(run.folder)
    damage(copy / "checkpoints" / "step-00000010")
    with pytest.raises(CheckpointError, match="step-00000010 is damaged"):
        Mirror(run.folder, copy).restore()


def test_a_damaged_copy_is_made_anew(run, copy):
    mirrored(run, copy, 10)
    damage(copy / "checkpoints" / "step-00000010")
    mirror = Mirror(run.folder, copy)
    mirror.request()
    assert mirror.finish(timeout_s=60)
    verify_checkpoint(copy / "checkpoints" / "step-00000010")


def test_an_outage_is_reported_once_and_made_up_for_when_it_ends(run, copy, caplog):
    caplog.set_level(logging.INFO)
    copy.parent.parent.mkdir(exist_ok=True)
    copy.parent.write_text("a file where the folder should be")
    mirror = Mirror(run.folder, copy)
    for step in (10, 20):
        run.checkpoint(step)
        mirror.request()
        assert mirror._wait(60)
    assert caplog.text.count("cannot be copied") == 1
    copy.parent.unlink()
    run.checkpoint(30)
    mirror.request()
    assert mirror.finish(timeout_s=60)
    assert steps(copy) == [20, 30]
    assert "can be written again" in caplog.text


def test_an_outage_that_lasts_is_told_at_the_end(run, copy, caplog):
    copy.parent.write_text("a file where the folder should be")
    run.checkpoint(10)
    mirror = Mirror(run.folder, copy)
    mirror.request()
    assert not mirror.finish(timeout_s=60)
    assert "only in" in caplog.text


def test_a_copy_that_never_ends_blocks_neither_training_nor_its_end(run, copy, monkeypatch, caplog):
    released = threading.Event()
    monkeypatch.setattr(mirror_module, "copy_checkpoint", lambda source, target: released.wait(60))
    run.checkpoint(10)
    mirror = Mirror(run.folder, copy)
    mirror.request()
    assert not mirror.finish(timeout_s=0.1)
    assert "not copied" in caplog.text
    released.set()


def test_one_failed_call_does_not_keep_a_checkpoint_from_being_restored(run, copy, monkeypatch):
    mirrored(run, copy, 10)
    shutil.rmtree(run.folder)
    calls = iter([OSError(5, "Input/output error")])
    real = mirror_module.copy_checkpoint

    def flaky(source, target):
        for error in calls:
            raise error
        real(source, target)

    monkeypatch.setattr(mirror_module, "copy_checkpoint", flaky)
    assert "Restored step 10" in Mirror(run.folder, copy).restore()


def test_a_checkpoint_deleted_while_it_is_copied_is_no_outage(run, copy, monkeypatch, caplog):
    run.checkpoint(10)
    real = mirror_module.copy_checkpoint

    def overtaken(source, target):
        if source.name == "step-00000010":
            run.checkpoint(20)
            shutil.rmtree(source)
        real(source, target)

    monkeypatch.setattr(mirror_module, "copy_checkpoint", overtaken)
    mirror = Mirror(run.folder, copy)
    mirror.request()
    assert mirror.finish(timeout_s=60)
    assert steps(copy) == [20]
    assert not caplog.records or "cannot be copied" not in caplog.text


@pytest.fixture
def unmounted(tmp_path, monkeypatch):
    """The folder of a copy on a Drive that is not mounted."""
    monkeypatch.setattr(mirror_module, "COLAB_MOUNT", tmp_path / "content" / "drive")
    return tmp_path / "content" / "drive" / "MyDrive" / "foundry" / "gpt"


def test_a_drive_that_is_not_mounted_is_refused_where_there_is_nothing_to_go_on_from(run, unmounted):
    with pytest.raises(CheckpointError, match=r"Google Drive is not mounted(.|\n)*drive\.folder=null"):
        Mirror(run.folder, unmounted).restore()
    assert not unmounted.exists()


def test_a_drive_that_is_not_mounted_is_an_outage_for_a_run_with_a_checkpoint(run, unmounted, caplog):
    run.checkpoint(10)
    mirror = Mirror(run.folder, unmounted)
    assert mirror.restore() is None
    mirror.request()
    assert not mirror.finish(timeout_s=60)
    assert caplog.text.count("Google Drive is not mounted") == 1
    assert not unmounted.exists()


@pytest.mark.parametrize("call", ["list", "write"])
def test_a_copy_that_cannot_be_read_or_written_is_refused_before_training(run, copy, monkeypatch, call):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    owner, name = (mirror_module, "newest_checkpoint") if call == "list" else (Path, "write_bytes")
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda path, *rest: (fail if copy in (path, path.parent) else real)(path, *rest))
    with pytest.raises(CheckpointError, match="Input/output error"):
        Mirror(run.folder, copy).restore()


def test_asking_whether_the_copy_can_be_written_leaves_no_file(run, copy):
    assert Mirror(run.folder, copy).restore() is None
    assert list(copy.iterdir()) == []


def tuned(folder):
    """Where a search leaves the best parameters."""
    path = folder / "tuning" / "best_parameters.json"
    path.parent.mkdir(exist_ok=True)
    return path


def test_the_best_parameters_of_a_search_are_copied_but_not_its_database(run, copy):
    tuned(run.folder).write_text('{"parameters": {}}')
    tuned(run.folder).with_name("study.db").write_text("SQLite")
    mirrored(run, copy, 10)
    assert {path.name for path in (copy / "tuning").iterdir()} == {"best_parameters.json"}
    shutil.rmtree(run.folder)
    Mirror(run.folder, copy).restore()
    assert tuned(run.folder).read_text() == '{"parameters": {}}'


def test_the_best_parameters_come_back_before_there_is_a_checkpoint(run, copy):
    tuned(run.folder).write_text("{}")
    mirrored(run, copy)
    shutil.rmtree(run.folder)
    assert Mirror(run.folder, copy).restore() is None
    assert tuned(run.folder).read_text() == "{}"


def test_the_best_parameters_of_a_later_search_stay(run, copy):
    tuned(run.folder).write_text("old")
    mirrored(run, copy, 10)
    shutil.rmtree(run.folder / "checkpoints")
    tuned(run.folder).write_text("new")
    Mirror(run.folder, copy).restore()
    assert tuned(run.folder).read_text() == "new"


def test_a_damaged_checkpoint_of_the_run_is_passed_over_and_named_once(run, copy, caplog):
    mirrored(run, copy, 10, 20)
    shutil.rmtree(copy / "checkpoints" / "step-00000020")
    damage(run.folder / "checkpoints" / "step-00000020")
    mirror = Mirror(run.folder, copy)
    run.progress(30)
    for _ in range(2):
        run.checkpoint(30)
        mirror.request()
        assert mirror._wait(60)
    assert mirror.finish(timeout_s=60)
    assert steps(copy) == [10, 30]
    assert caplog.text.count("step-00000020 is damaged") == 1
    assert (copy / "metrics.jsonl").read_bytes() == (run.folder / "metrics.jsonl").read_bytes()


def test_old_copies_are_deleted_beside_a_damaged_checkpoint_of_the_run(tmp_path, copy):
    run = Run(tmp_path / "other", keep=3)
    run.start()
    mirrored(run, copy, 10, 20, 30)
    damage(run.folder / "checkpoints" / "step-00000020")
    shutil.rmtree(copy / "checkpoints" / "step-00000020")
    mirrored(run, copy, 40)
    assert steps(run.folder) == [20, 30, 40]
    assert steps(copy) == [30, 40]


def test_a_session_without_a_checkpoint_claims_no_copy(run, copy, caplog):
    caplog.set_level(logging.INFO)
    mirrored(run, copy)
    assert caplog.text == ""


def test_an_unexpected_error_is_reported_once_and_ends_the_wait(run, copy, monkeypatch, caplog):
    monkeypatch.setattr(mirror_module, "copy_checkpoint", lambda source, target: {}["files"])
    mirror = Mirror(run.folder, copy)
    for step in (10, 20):
        run.checkpoint(step)
        mirror.request()
        assert mirror._wait(60)
    assert not mirror.finish(timeout_s=60)
    assert caplog.text.count("KeyError: 'files'") == 1
    assert mirror._thread.is_alive()
