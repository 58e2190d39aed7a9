from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.core.training.tiny import checkpoints, run
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training import Checkpoint, CheckpointWriter, list_checkpoints
from transformer_foundry.core.training.checkpointing import async_writer as module
from transformer_foundry.core.training.checkpointing import checkpoint as checkpoint_module
from transformer_foundry.core.training.checkpointing.checkpoint import SessionMark
from transformer_foundry.core.training.checkpointing.directory import verify_checkpoint


@pytest.fixture(scope="module")
def made() -> list[Checkpoint]:
    return checkpoints(run(save_steps=2, max_steps=8))


def test_a_checkpoint_is_announced_when_it_verifies(made: list[Checkpoint], tmp_path: Path) -> None:
    announced: list[int] = []

    def on_saved(folder: Path, checkpoint: Checkpoint) -> None:
        verify_checkpoint(folder)
        announced.append(checkpoint.step)

    writer = CheckpointWriter(tmp_path, on_saved=on_saved)
    for checkpoint in made:
        writer.submit(checkpoint, keep_last=9)
    writer.wait()
    assert announced == [checkpoint.step for checkpoint in made]


def test_training_continues_while_a_checkpoint_is_written(
    made: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, real = threading.Event(), module.write_checkpoint

    def slow(*arguments: object, **options: object) -> Path:
        assert released.wait(60)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_checkpoint", slow)
    writer = CheckpointWriter(tmp_path)
    writer.submit(made[0], keep_last=1)
    assert list_checkpoints(tmp_path) == []
    released.set()
    writer.wait()
    assert len(list_checkpoints(tmp_path)) == 1


def test_an_error_of_a_write_is_raised_once_where_training_is(made: list[Checkpoint], tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    writer = CheckpointWriter(tmp_path / "run")
    writer.submit(made[0], keep_last=1)
    with pytest.raises(CheckpointError, match="cannot be written"):
        writer.wait()
    writer.wait()


def test_two_sessions_overwrite_nothing_and_the_later_one_counts(made: list[Checkpoint], tmp_path: Path) -> None:
    for fence, token in ((2, "bbbbbb"), (1, "aaaaaa")):
        other = tmp_path / token
        writer = CheckpointWriter(other, session=SessionMark(token, fence))
        writer.submit(made[0], keep_last=1)
        writer.wait()
        (folder,) = list_checkpoints(other)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        folder.rename(tmp_path / "checkpoints" / folder.name)
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step-00000002-aaaaaa", "step-00000002-bbbbbb"]


def test_a_checkpoint_waits_for_a_disk_that_is_full_for_a_while(
    made: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """safetensors reports a full disk in its own words; the folder is removed and written again."""
    left, real = [2], checkpoint_module._save_tensors

    def save(path: Path, tensors: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            path.write_bytes(b"half")
            raise OSError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(path, tensors)

    monkeypatch.setattr(checkpoint_module, "_save_tensors", save)
    monkeypatch.setattr("transformer_foundry.core.files.atomic.time.sleep", lambda _: None)
    writer = CheckpointWriter(tmp_path)
    writer.submit(made[0], keep_last=1)
    writer.wait()
    (folder,) = list_checkpoints(tmp_path)
    verify_checkpoint(folder)
    assert caplog.text.count("is full: waiting") == 1
