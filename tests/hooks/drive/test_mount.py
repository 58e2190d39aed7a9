"""A Drive that is unmounted in the middle, mounted again, full for a while, or another one."""

import errno
import logging
import shutil
import subprocess
import time

import pytest

from tests.hooks.drive.test_callback import make_run
from tests.hooks.runs import weight_of
from transformer_foundry.core.training.checkpointing.directory import find_checkpoint, list_checkpoints
from transformer_foundry.hooks.drive import background_sync, file_sync
from transformer_foundry.hooks.drive.callback import DriveCallback
from transformer_foundry.hooks.drive.file_sync import FileSync
from transformer_foundry.hooks.drive.mount import MARKER_FILE, DriveRoot


class Drive:
    """A folder that stands for a mount: ``unmount`` leaves an empty folder in its place."""

    def __init__(self, point):
        self.point, self._aside = point, point.with_name("away")
        point.mkdir()

    def unmount(self):
        self.point.rename(self._aside)
        self.point.mkdir()

    def mount(self):
        self.point.rmdir()  # fails if anything was written below the empty mount point
        self._aside.rename(self.point)


@pytest.fixture
def drive(tmp_path):
    return Drive(tmp_path / "drive")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(background_sync, "PROBE_S", 0.02)
    monkeypatch.setattr(background_sync, "FIRST_RETRY_S", 0.02)


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def train(run, *steps):
    for step in steps:
        run.progress(step)
        run.checkpoint(step)


@pytest.mark.parametrize("below", ["", "/MyDrive/foundry"])
def test_a_drive_that_is_unmounted_in_the_middle_is_reported_at_once_and_nothing_is_made_in_its_place(
    tmp_path, drive, below, caplog
):
    (tmp_path / "drive" / "MyDrive").mkdir()
    run = make_run(tmp_path, DriveCallback(), folder=f"drive{below}")
    run.begin()
    run.start()
    train(run, 10)
    drive.unmount()
    wait_for(lambda: "Nothing can be copied" in caplog.text)  # without a new checkpoint
    train(run, 20)
    run.end()
    assert "not mounted any more" in caplog.text or "No such file" in caplog.text
    assert "not copied to Drive" in caplog.text
    assert "verified up to" not in caplog.text
    assert not list(drive.point.iterdir())


def test_a_drive_that_comes_back_is_brought_up_to_date_without_a_new_checkpoint(tmp_path, drive, caplog):
    caplog.set_level(logging.INFO)
    run = make_run(tmp_path, DriveCallback())
    run.begin()
    run.start()
    train(run, 10)
    wait_for(lambda: (drive.point / "gpt").is_dir() and find_checkpoint(drive.point / "gpt", 10))
    drive.unmount()
    train(run, 20)
    wait_for(lambda: "Nothing can be copied" in caplog.text)
    drive.mount()
    wait_for(lambda: "can be written again" in caplog.text)
    assert weight_of(find_checkpoint(drive.point / "gpt", 20)) == 20.0
    run.end()
    assert "verified up to step 20" in caplog.text


def test_a_checkpoint_that_is_being_copied_when_drive_goes_is_not_continued_in_its_place(tmp_path, drive, monkeypatch):
    from transformer_foundry.core.training.checkpointing import directory

    run, real = make_run(tmp_path, DriveCallback()), directory.copy_file
    run.begin()
    run.start()

    def copy(source, target):
        real(source, target)
        if target.name == "weights.safetensors":
            drive.unmount()

    monkeypatch.setattr(directory, "copy_file", copy)
    train(run, 10)
    run.end()
    assert not list(drive.point.iterdir())


def test_another_drive_at_the_same_place_is_not_used(tmp_path):
    root = DriveRoot(tmp_path / "drive")
    root.check()
    (tmp_path / "drive" / MARKER_FILE).write_text("another one")
    with pytest.raises(OSError, match="not mounted any more"):
        root.check()


def test_what_lies_above_the_folder_is_never_made(tmp_path):
    with pytest.raises(OSError, match="missing does not exist"):
        DriveRoot(tmp_path / "missing" / "foundry").check()
    assert not (tmp_path / "missing").exists()


def test_two_sessions_on_one_drive_know_it_by_the_same_marker(tmp_path):
    first, second = DriveRoot(tmp_path / "drive"), DriveRoot(tmp_path / "drive")
    for root in (first, second, first):
        root.check()


class FullDisk:
    """Takes a number of files, then none; while it is full it refuses deletions too, if ``refuses``."""

    def __init__(self, monkeypatch, refuses):
        from transformer_foundry.hooks.drive import verified_copy

        self.left = 10**6
        real_copy, real_remove = verified_copy.copy_file, shutil.rmtree

        def copy(source, target, root=None):
            if self.left <= 0:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= 1
            real_copy(source, target, root)

        def remove(path, ignore_errors=False, **rest):
            if self.left > 0 or not refuses:
                real_remove(path, ignore_errors=ignore_errors, **rest)

        monkeypatch.setattr(verified_copy, "copy_file", copy)
        monkeypatch.setattr(file_sync.shutil, "rmtree", remove)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_disk_that_is_full_for_a_while_leaves_no_part_of_a_copy(tmp_path, monkeypatch, refuses):
    disk, path = FullDisk(monkeypatch, refuses), tmp_path / "data" / "tokens"
    path.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (path / name).write_text(name)
    sync = FileSync(tmp_path / "data", tmp_path / "copy")
    sync.note(path)
    disk.left = 2
    for _ in range(5):
        with pytest.raises(OSError, match="No space left"):
            sync.update()
    disk.left = 10
    sync.update()
    (copy,) = (tmp_path / "copy" / "tokens").iterdir()
    assert sorted(child.name for child in copy.iterdir()) == ["a", "b", "c", "manifest.json"]


def test_the_parts_that_a_killed_process_left_are_removed_at_the_next_start(tmp_path):
    path = tmp_path / "data" / "report.json"
    path.parent.mkdir()
    path.write_text("{}")
    copies = tmp_path / "copy" / "report.json"
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f"000001-{file_sync._HOST}-{ended.pid}-aaaaaa", "000002-bbbbbb-77-cccccc"):
        (copies / name).mkdir(parents=True)
    sync = FileSync(tmp_path / "data", tmp_path / "copy")
    sync.note(path)
    sync.update()
    assert sorted(copy.name[:13] for copy in copies.iterdir())[-1] == "000002-bbbbbb"  # another machine may be writing
    assert len(list(copies.iterdir())) == 2


def test_an_outage_is_retried_once_at_a_time_however_many_requests_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(background_sync, "FIRST_RETRY_S", 60.0)
    attempts = []

    def update(is_last):
        attempts.append(is_last)
        raise OSError(errno.ENOSPC, "No space left on device")

    sync = background_sync.BackgroundSync(tmp_path, update)
    for _ in range(50):
        sync.request()
    wait_for(lambda: attempts)
    for _ in range(50):
        sync.request()
    assert not sync.finish(20)
    assert attempts in ([False, True], [True])


def test_an_unfinished_checkpoint_in_the_copy_of_the_run_is_removed(tmp_path, drive):
    run = make_run(tmp_path, DriveCallback())
    run.begin()
    run.start()
    train(run, 10)
    part = drive.point / "gpt" / "checkpoints" / "step-00000007-abcdef"
    part.mkdir(parents=True)
    (part / "weights.safetensors").write_bytes(b"half")
    train(run, 20)
    run.end()
    assert not part.exists()
    assert len(list_checkpoints(drive.point / "gpt")) == 2


def test_a_marker_that_is_no_text_marks_the_folder_too(tmp_path):
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / MARKER_FILE).write_bytes(b"\xff\xfe")
    root = DriveRoot(tmp_path / "drive")
    root.check()
    root.check()
    (tmp_path / "drive" / MARKER_FILE).write_text("another")
    with pytest.raises(OSError, match="not mounted any more"):
        root.check()
