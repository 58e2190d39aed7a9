import logging
import shutil
import threading

import pytest

from tests.hooks.runs import Run, make_checkpoint, weight_of
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training.checkpointing.directory import (
    find_checkpoint,
    list_checkpoints,
    step_of,
    verify_checkpoint,
)
from transformer_foundry.hooks.drive import background_sync, checkpoint_sync
from transformer_foundry.hooks.drive.background_sync import BackgroundSync
from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync


class RunSync(BackgroundSync):
    """A copy of a run and the thread that updates it, as in the callback."""

    def __init__(self, run_folder, copy_folder, upload_bytes_per_s=1e15):
        self.checkpoints = CheckpointSync(run_folder, copy_folder, upload_bytes_per_s=upload_bytes_per_s)
        super().__init__(copy_folder, self.checkpoints.update)

    def restore(self):
        self.checkpoints.check()
        return self.checkpoints.restore()


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "data")
    run.start()
    return run


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "drive").mkdir()
    return tmp_path / "drive" / "gpt"


def steps(folder):
    return [step_of(path) for path in list_checkpoints(folder)]


def copied(run, copy, *up_to):
    """A sync that has copied checkpoints of these steps."""
    sync = RunSync(run.folder, copy)
    for step in up_to:
        run.progress(step)
        run.checkpoint(step)
        sync.request()
        assert sync.wait(60)
    sync.request()
    assert sync.finish(timeout_s=60)
    return sync


def damage(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_copy_verifies_and_holds_the_same_weights(run, copy):
    copied(run, copy, 10)
    (folder,) = list_checkpoints(copy)
    verify_checkpoint(folder)
    assert weight_of(folder) == 10.0


def test_the_files_of_the_run_are_copied_too(run, copy):
    copied(run, copy, 10)
    for name in ("manifest.json", "metrics.jsonl"):
        assert (copy / name).read_bytes() == (run.folder / name).read_bytes()


def test_copies_that_the_run_no_longer_keeps_are_deleted(run, copy):
    copied(run, copy, 10, 20, 30, 40)
    assert steps(copy) == steps(run.folder) == [30, 40]


def test_the_newest_two_copies_stay_when_the_run_keeps_one(tmp_path, copy):
    run = Run(tmp_path / "other", keep=1)
    run.start()
    copied(run, copy, 10)
    copied(run, copy, 20)
    assert (steps(run.folder), steps(copy)) == ([20], [10, 20])


def test_a_copy_newer_than_the_run_is_never_deleted(run, copy, tmp_path):
    other = Run(tmp_path / "other")
    other.start()
    copied(other, copy, 90)
    copied(run, copy, 10, 20)
    assert 90 in steps(copy)


def test_a_run_whose_folder_is_gone_is_restored(run, copy):
    copied(run, copy, 10, 20)
    metrics = (run.folder / "metrics.jsonl").read_bytes()
    shutil.rmtree(run.folder)
    sentence = RunSync(run.folder, copy).restore()
    assert sentence.startswith("Restored step 20 from")
    assert weight_of(list_checkpoints(run.folder)[-1]) == 20.0
    assert (run.folder / "metrics.jsonl").read_bytes() == metrics


def test_the_best_checkpoint_is_restored_with_the_newest(run, copy):
    best, newest = make_checkpoint(10), make_checkpoint(20)
    newest.state.loop.best_step = 10
    for checkpoint in (best, newest):
        run.save(checkpoint)
    sync = RunSync(run.folder, copy)
    sync.request()
    assert sync.finish(timeout_s=60)
    shutil.rmtree(run.folder)
    RunSync(run.folder, copy).restore()
    assert steps(run.folder) == [10, 20]


def test_a_run_that_is_as_new_as_its_copy_is_not_changed(run, copy):
    copied(run, copy, 10)
    assert RunSync(run.folder, copy).restore() is None


def test_a_run_that_is_older_than_its_copy_resumes_from_the_copy(run, copy):
    copied(run, copy, 10, 20)
    shutil.rmtree(find_checkpoint(run.folder, 20))
    assert RunSync(run.folder, copy).restore().endswith("had step 10.")
    assert steps(run.folder) == [10, 20]


def test_a_damaged_checkpoint_of_the_run_is_set_aside_for_its_copy(run, copy):
    copied(run, copy, 10, 20)
    damage(find_checkpoint(run.folder, 20))
    RunSync(run.folder, copy).restore()
    verify_checkpoint(find_checkpoint(run.folder, 20))
    assert list((run.folder / "checkpoints").glob("aside-1-step-00000020-*"))


def test_a_damaged_copy_is_skipped_and_named(run, copy, caplog):
    copied(run, copy, 10, 20)
    shutil.rmtree(run.folder)
    damage(find_checkpoint(copy, 20))
    assert "Restored step 10" in RunSync(run.folder, copy).restore()
    assert f"{find_checkpoint(copy, 20).name} is damaged" in caplog.text


def test_a_run_with_only_damaged_copies_is_refused(run, copy):
    copied(run, copy, 10)
    shutil.rmtree(run.folder)
    damage(find_checkpoint(copy, 10))
    with pytest.raises(CheckpointError, match=r"step-00000010-\w+ is damaged"):
        RunSync(run.folder, copy).restore()


def test_an_only_copy_that_was_never_fully_uploaded_is_no_reason_to_refuse(run, copy, caplog):
    copied(run, copy, 10)
    shutil.rmtree(run.folder)
    (find_checkpoint(copy, 10) / "weights.safetensors").unlink()
    assert RunSync(run.folder, copy).restore() is None
    assert "never completed" in caplog.text


def test_a_damaged_copy_is_made_again(run, copy):
    copied(run, copy, 10)
    damage(find_checkpoint(copy, 10))
    sync = RunSync(run.folder, copy)
    sync.request()
    assert sync.finish(timeout_s=60)
    verify_checkpoint(find_checkpoint(copy, 10))


def test_an_outage_is_reported_once_and_the_copy_updated_when_it_ends(run, copy, caplog):
    caplog.set_level(logging.INFO)
    copy.parent.rmdir()
    copy.parent.write_text("a file where the folder should be")
    sync = RunSync(run.folder, copy)
    for step in (10, 20):
        run.checkpoint(step)
        sync.request()
        assert sync.wait(60)
    assert caplog.text.count("can be copied") == 1
    copy.parent.unlink()
    copy.parent.mkdir()
    run.checkpoint(30)
    sync.request()
    assert sync.finish(timeout_s=60)
    assert steps(copy) == [30]
    assert "can be written again" in caplog.text


def test_after_an_outage_the_copy_is_made_without_a_request(tmp_path, monkeypatch):
    monkeypatch.setattr(background_sync, "RETRY_S", 0.01)
    attempts, is_made = [], threading.Event()

    def update(_is_last):
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("away")
        is_made.set()

    sync = BackgroundSync(tmp_path, update)
    sync.request()
    assert is_made.wait(60)
    assert sync.finish()


def test_an_outage_that_lasts_leaves_the_copy_incomplete(run, copy):
    copy.parent.rmdir()
    copy.parent.write_text("a file where the folder should be")
    run.checkpoint(10)
    sync = RunSync(run.folder, copy)
    sync.request()
    assert not sync.finish(timeout_s=60)


def test_a_copy_that_never_ends_blocks_neither_training_nor_its_end(run, copy, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(checkpoint_sync, "copy_checkpoint", lambda *_: released.wait(60))
    run.checkpoint(10)
    sync = RunSync(run.folder, copy)
    sync.request()
    assert not sync.finish(timeout_s=0.1)
    released.set()


def test_a_checkpoint_deleted_while_it_is_copied_is_no_outage(run, copy, monkeypatch, caplog):
    run.checkpoint(10)
    real = checkpoint_sync.copy_checkpoint

    def overtaken(source, *places):
        if source.name.startswith("step-00000010"):
            run.checkpoint(20)
            shutil.rmtree(source)
        real(source, *places)

    monkeypatch.setattr(checkpoint_sync, "copy_checkpoint", overtaken)
    sync = RunSync(run.folder, copy)
    sync.request()
    assert sync.finish(timeout_s=60)
    assert steps(copy) == [20]
    assert not caplog.records or "can be copied" not in caplog.text


def test_the_check_of_write_access_leaves_no_file(run, copy):
    assert RunSync(run.folder, copy).restore() is None
    assert list(copy.iterdir()) == []


def test_a_damaged_checkpoint_of_the_run_is_skipped_and_named_once(run, copy, caplog):
    copied(run, copy, 10, 20)
    shutil.rmtree(find_checkpoint(copy, 20))
    name = find_checkpoint(run.folder, 20).name
    damage(find_checkpoint(run.folder, 20))
    sync = RunSync(run.folder, copy)
    for _ in range(2):
        sync.request()
        assert sync.wait(60)
    assert sync.finish(timeout_s=60)
    assert steps(copy) == [10]
    assert caplog.text.count(f"{name} is damaged") == 1
    assert (copy / "metrics.jsonl").read_bytes() == (run.folder / "metrics.jsonl").read_bytes()


def test_old_copies_are_deleted_beside_a_damaged_checkpoint_of_the_run(tmp_path, copy):
    run = Run(tmp_path / "other", keep=3)
    run.start()
    copied(run, copy, 10, 20, 30)
    damage(find_checkpoint(run.folder, 20))
    shutil.rmtree(find_checkpoint(copy, 20))
    copied(run, copy, 40)
    assert steps(run.folder) == [20, 30, 40]
    assert steps(copy) == [30, 40]


def test_a_session_without_a_checkpoint_reports_no_copy(run, copy, caplog):
    caplog.set_level(logging.INFO)
    copied(run, copy)
    assert caplog.text == ""


def test_an_unexpected_error_is_reported_once_and_ends_the_wait(run, copy, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint_sync, "copy_checkpoint", lambda *_: {}["files"])
    sync = RunSync(run.folder, copy)
    for step in (10, 20):
        run.checkpoint(step)
        sync.request()
        assert sync.wait(60)
    assert not sync.finish(timeout_s=60)
    assert caplog.text.count("KeyError: 'files'") == 1
    assert sync._thread.is_alive()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_checkpoint_is_copied_when_the_one_before_should_have_been_uploaded(run, copy):
    clock = Clock()
    copies = CheckpointSync(run.folder, copy, upload_bytes_per_s=1000.0, clock=clock)
    run.checkpoint(10)
    assert copies.update(False) is None
    run.checkpoint(20)
    wait_s = copies.update(False)
    assert wait_s is not None
    assert steps(copy) == [10]
    clock.now += wait_s
    run.checkpoint(30)
    copies.update(False)
    assert steps(copy) == [10, 30]


def test_a_copy_stays_until_a_newer_one_has_had_three_upload_times(run, copy):
    clock = Clock()
    copies = CheckpointSync(run.folder, copy, upload_bytes_per_s=1000.0, clock=clock)
    for step in (10, 20, 30, 40, 50):
        run.checkpoint(step)
        wait_s = copies.update(False) or 0.0
        clock.now += wait_s + 1e-6  # sums of upload times are rounded
        copies.update(False)
    assert steps(copy) == [20, 30, 40, 50]
    clock.now += 1e6
    copies.update(False)
    assert steps(copy) == [40, 50]


def test_the_last_update_waits_for_no_upload(run, copy):
    copies = CheckpointSync(run.folder, copy, upload_bytes_per_s=1.0)
    for step in (10, 20):
        run.checkpoint(step)
        copies.update(step == 20)
    assert steps(copy) == [10, 20]
