from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.core.training.tiny import assert_same_state, checkpoints, files_of, make_model, run
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files import folder_manifest
from transformer_foundry.core.training import (
    Checkpoint,
    best_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    restore_model,
    verify_checkpoint,
    write_checkpoint,
)
from transformer_foundry.core.training.checkpointing import checkpoint as module
from transformer_foundry.core.training.checkpointing.checkpoint import read_state
from transformer_foundry.core.training.checkpointing.directory import find_checkpoint
from transformer_foundry.core.training.checkpointing.retention import quarantine_after
from transformer_foundry.core.training.checkpointing.state import PlannedEnd, TimePlan, capture_model


@pytest.fixture(scope="module")
def made() -> list[Checkpoint]:
    return checkpoints(run(save_steps=2, max_steps=8))


COUNTERS_OF_0_1_0 = (
    "step", "position", "tokens_seen", "is_recorded", "window_losses", "window_targets", "grad_norm", "best_loss",
    "best_step", "evaluations_since_best", "skipped_steps", "total_skipped_steps", "rollbacks", "learning_rate_scale",
    "judged_steps", "loss_mean", "loss_variance", "is_compiled", "memory_plan", "trained_s", "time_plan", "metrics",
)  # fmt: skip


@pytest.fixture
def folders(made: list[Checkpoint], tmp_path: Path) -> list[Path]:
    return [write_checkpoint(tmp_path, checkpoint) for checkpoint in made]


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_checkpoint_comes_back_to_the_bit(made: list[Checkpoint], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, made[1])
    found = read_checkpoint(folder)
    assert_same_state(found, made[1].state)
    assert found.checkpointed == made[1].state.checkpointed
    assert (found.options, found.identity) == (made[1].state.options, made[1].state.identity)
    assert sorted(files_of(folder)) == ["manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]


def test_tied_weights_are_stored_once_and_stay_tied(made: list[Checkpoint], tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = write_checkpoint(tmp_path, made[0])
    with safe_open(folder / "weights.safetensors", "pt") as file:
        assert ("head.weight" in file.keys()) != ("embedding.weight" in file.keys())  # noqa: SIM118
    model = make_model()
    restore_model(model, read_checkpoint(folder).model)
    assert model.head.weight is model.embedding.weight
    assert torch.equal(model.head.weight, made[0].state.model["head.weight"])


class Views(torch.nn.Module):
    """A transposed view, an expanded constant, a scalar, an empty and a complex buffer, a half-precision weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 5))
        self.transposed = torch.nn.Parameter(self.weight.data.t())
        self.narrow = torch.nn.Parameter(torch.randn(2, 2, dtype=torch.bfloat16))
        self.register_buffer("expanded", torch.ones(1, 1).expand(4, 4))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("rotations", torch.randn(3, dtype=torch.complex64))


def test_views_and_odd_buffers_are_saved_and_restored(made: list[Checkpoint], tmp_path: Path) -> None:
    saved, target = Views(), Views()
    state = dataclasses.replace(made[0].state, model=capture_model(saved))
    folder = write_checkpoint(tmp_path, dataclasses.replace(made[0], state=state))
    restore_model(target, read_checkpoint(folder).model)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name
    assert target.transposed.data_ptr() == target.weight.data_ptr()


def test_something_else_than_a_tensor_in_the_weights_is_refused() -> None:
    class Extra(torch.nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    with pytest.raises(CheckpointError, match="_extra_state"):
        capture_model(Extra(2, 2))


tensors = st.builds(
    lambda shape, dtype, seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]),
    st.integers(0, 99),
)


@settings(deadline=None, max_examples=40)
@given(stored=st.dictionaries(st.text(min_size=1, max_size=8), tensors, min_size=1, max_size=4))
def test_any_tensors_come_back(made: list[Checkpoint], tmp_path_factory: Any, stored: dict[str, Tensor]) -> None:
    folder = tmp_path_factory.mktemp("run")
    state = dataclasses.replace(made[0].state, model=stored)
    found = read_checkpoint(write_checkpoint(folder, dataclasses.replace(made[0], state=state))).model
    assert found.keys() == stored.keys()
    assert all(found[name].dtype == stored[name].dtype and torch.equal(found[name], stored[name]) for name in stored)


def test_the_newest_checkpoint_is_found(folders: list[Path], tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == folders[-1]
    assert list_checkpoints(tmp_path) == folders


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    assert best_checkpoint(tmp_path) is None
    assert list_checkpoints(tmp_path / "nowhere") == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    shutil.copy(path.parent.parent / "step-00000002" / path.name, path)


DAMAGES: list[Callable[[Path], None]] = [flip_a_bit, cut, empty, swap, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_skipped_and_kept(
    folders: list[Path], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(folders[-1] / name)
    notes: list[str] = []
    assert newest_checkpoint(tmp_path, notes) == folders[-2]
    assert folders[-1].name in notes[0]
    assert name in notes[0]
    assert folders[-1].exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_skipped(folders: list[Path], tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(folders[-1] / "manifest.json")
    notes: list[str] = []
    assert newest_checkpoint(tmp_path, notes) == folders[-2]
    assert folders[-1].name in notes[0]


def test_a_checkpoint_under_another_step_s_name_is_not_taken(folders: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "checkpoints" / "step-00000099")
    notes: list[str] = []
    assert newest_checkpoint(tmp_path, notes) == folders[-1]
    assert "step 2" in notes[0]


def test_a_checkpoint_that_was_never_finished_is_skipped(folders: list[Path], tmp_path: Path) -> None:
    (folders[-1] / "manifest.json").unlink()
    notes: list[str] = []
    assert newest_checkpoint(tmp_path, notes) == folders[-2]
    assert notes == ["step-00000008 was never finished and is skipped."]


def test_a_run_that_was_killed_in_its_first_save_starts_again(made: list[Checkpoint], tmp_path: Path) -> None:
    (write_checkpoint(tmp_path, made[0]) / "manifest.json").unlink()
    assert newest_checkpoint(tmp_path) is None


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_again(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        flip_a_bit(folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"All checkpoints .* are damaged: step-00000008") as caught:
        newest_checkpoint(tmp_path)
    assert "delete" in caught.value.remedy


def test_a_newer_format_is_refused(made: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, made[0])
    with monkeypatch.context() as later:
        later.setattr(module, "FORMAT_VERSION", 99)
        write_checkpoint(tmp_path, made[1])
    with pytest.raises(CheckpointError, match="format version 99"):
        newest_checkpoint(tmp_path)


def test_one_failed_call_in_reading_means_nothing(
    folders: list[Path], made: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([OSError(errno.EIO, "Input/output error")])

    def failing_once(folder: Path, **options: Any) -> Any:
        for answer in answers:
            raise answer
        return read_state(folder, **options)

    monkeypatch.setattr(module, "read_state", failing_once)
    assert read_checkpoint(folders[0]).checkpointed == made[0].state.checkpointed


def test_counters_of_another_version_are_read(made: list[Checkpoint], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, made[0])
    values = json.loads((folder / "state.json").read_text())
    del values["counters"]["tokens_seen"]
    values["counters"]["of_another_version"] = 1
    (folder / "state.json").write_text(json.dumps(values))
    found = read_state(folder).checkpointed
    expected = dataclasses.replace(made[0].state.loss_window, tokens_seen=0)
    assert found == made[0].state.checkpointed | {"loss_window": expected}


def test_the_counters_in_a_file_have_the_names_of_version_0_1_0(tmp_path: Path) -> None:
    made = checkpoints(run(max_steps=4))[0]
    state = dataclasses.replace(made.state, time_plan=TimePlan(7.5, (PlannedEnd(3, 0.25, 40, 0.5),)))
    folder = write_checkpoint(tmp_path, dataclasses.replace(made, state=state))
    counters = json.loads((folder / "state.json").read_text())["counters"]
    added = {"rows_per_batch", "batches_per_step", "world_size"}
    assert sorted(counters) == sorted({*COUNTERS_OF_0_1_0, *added})
    assert (counters["trained_s"], counters["time_plan"]) == (7.5, [[3, 0.25, 40, 0.5]])
    assert sorted(counters["memory_plan"]) == ["activation_checkpointing", "budget_bytes", "chunked_loss", "rows"]
    assert read_checkpoint(folder).checkpointed == state.checkpointed


def test_the_best_checkpoint_is_found(made: list[Checkpoint], folders: list[Path], tmp_path: Path) -> None:
    best = f"step-{made[-1].state.loop.best_step:08d}"
    found = best_checkpoint(tmp_path)
    assert found is not None
    assert found.name == best
    flip_a_bit(found / "state.json")
    notes: list[str] = []
    if found != folders[-1]:
        assert best_checkpoint(tmp_path, notes) == folders[-1]
        assert best in notes[0]


def test_pruning_keeps_the_last_and_the_best(folders: list[Path], tmp_path: Path) -> None:
    deleted = prune_checkpoints(tmp_path, keep_last=1, best_step=4)
    assert names(list_checkpoints(tmp_path)) == ["step-00000004", "step-00000008"]
    assert not any(folder.exists() for folder in deleted)


def test_a_whole_checkpoint_is_not_written_twice(made: list[Checkpoint], tmp_path: Path) -> None:
    before = files_of(write_checkpoint(tmp_path, made[0]))
    again = dataclasses.replace(made[0], reason="interrupt")
    assert files_of(write_checkpoint(tmp_path, again)) == before


def recorded_later(made: Checkpoint) -> Checkpoint:
    """The same step after its evaluation."""
    loop = dataclasses.replace(made.state.loop, best_step=made.step, best_loss=0.25)
    return dataclasses.replace(made, reason="best", state=dataclasses.replace(made.state, loop=loop))


def test_a_checkpoint_that_knows_more_replaces_the_one_of_its_step(made: list[Checkpoint], tmp_path: Path) -> None:
    first, later = write_checkpoint(tmp_path, made[0]), recorded_later(made[0])
    folder = write_checkpoint(tmp_path, later)
    assert read_checkpoint(folder).checkpointed == later.state.checkpointed
    assert not first.exists()
    assert list_checkpoints(tmp_path) == [folder] == [newest_checkpoint(tmp_path)] == [best_checkpoint(tmp_path)]
    assert find_checkpoint(tmp_path, made[0].step) == folder
    assert int(folder.name.removeprefix("step-")) == made[0].step


def test_a_replaced_checkpoint_can_be_replaced_again(made: list[Checkpoint], tmp_path: Path) -> None:
    for checkpoint in (made[0], recorded_later(made[0]), made[0], recorded_later(made[0])):
        folder = write_checkpoint(tmp_path, checkpoint)
    assert list_checkpoints(tmp_path) == [folder]
    assert read_checkpoint(folder).loop.best_loss == 0.25


def test_pruning_deletes_what_was_replaced(made: list[Checkpoint], tmp_path: Path) -> None:
    for checkpoint in made:
        write_checkpoint(tmp_path, checkpoint)
    replaced = tmp_path / "checkpoints" / "step-00000002"
    shutil.copytree(replaced, tmp_path / "copy")
    folder = write_checkpoint(tmp_path, recorded_later(made[0]))
    shutil.copytree(tmp_path / "copy", replaced)
    assert replaced in prune_checkpoints(tmp_path, keep_last=1, best_step=2)
    assert names(list_checkpoints(tmp_path)) == [folder.name, "step-00000008"]


def test_a_damaged_checkpoint_is_quarantined_by_its_successor(made: list[Checkpoint], tmp_path: Path) -> None:
    flip_a_bit(write_checkpoint(tmp_path, made[0]) / "weights.safetensors")
    folder = write_checkpoint(tmp_path, made[0])
    verify_checkpoint(folder)
    assert names(sorted(folder.parent.iterdir())) == ["aside-1-step-00000002", "step-00000002"]


def test_of_checkpoints_quarantined_earlier_only_the_newest_stay(made: list[Checkpoint], tmp_path: Path) -> None:
    for seconds in range(1, 5):
        write_checkpoint(tmp_path, made[0])
        (moved,) = quarantine_after(tmp_path, 0)
        os.utime(moved, (seconds, seconds))
    kept = (tmp_path / "checkpoints").glob("aside-*")
    assert sorted(path.stat().st_mtime for path in kept) == [3, 4]


def test_checkpoints_quarantined_together_all_stay(made: list[Checkpoint], tmp_path: Path) -> None:
    for checkpoint in made[:3]:
        write_checkpoint(tmp_path, checkpoint)
    moved = quarantine_after(tmp_path, 0)
    assert len(moved) == 3
    assert all(path.is_dir() for path in moved)


def test_later_checkpoints_are_quarantined_when_a_run_resumes_from_an_earlier_one(
    folders: list[Path], tmp_path: Path
) -> None:
    (folders[2] / "manifest.json").unlink()
    moved = quarantine_after(tmp_path, 4)
    assert names(moved) == ["aside-1-step-00000008"]
    assert list_checkpoints(tmp_path) == folders[:2]
    assert not folders[2].exists()


def test_the_logs_up_to_the_step_are_part_of_a_checkpoint(made: list[Checkpoint], tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step"')
    folder = write_checkpoint(tmp_path, made[0], [log, tmp_path / "missing.jsonl"])
    assert (folder / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert (folder / "missing.jsonl").read_text() == ""


def test_a_full_disk_leaves_the_earlier_checkpoint(
    made: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_checkpoint(tmp_path, made[0])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_manifest, "replace_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_checkpoint(tmp_path, made[1])
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path) == first


DURABLE_CALLS = ((module, "write_state"), (module, "write_text"), (module, "make_folder"))
DURABLE_CALLS += ((folder_manifest, "sync"), (folder_manifest, "replace_file"))


@pytest.mark.parametrize("calls_before_the_kill", range(6))
def test_a_kill_at_any_point_of_a_save_leaves_a_state_to_go_on_from(
    made: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls_before_the_kill: int
) -> None:
    first, log = write_checkpoint(tmp_path, made[0]), tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n')
    left = iter(range(calls_before_the_kill))
    for owner, name in DURABLE_CALLS:
        monkeypatch.setattr(owner, name, _killed_when_used_up(getattr(owner, name), left))
    with contextlib.suppress(_Killed):
        write_checkpoint(tmp_path, made[1], [log])
    monkeypatch.undo()
    second = tmp_path / "checkpoints" / "step-00000004"
    assert newest_checkpoint(tmp_path) in (first, second)
    verify_checkpoint(write_checkpoint(tmp_path, made[1], [log]))


@pytest.mark.parametrize("calls_before_the_kill", range(6))
def test_a_kill_while_a_checkpoint_is_replaced_leaves_one_of_the_step(
    made: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls_before_the_kill: int
) -> None:
    later = recorded_later(made[0])
    write_checkpoint(tmp_path, made[0])
    left = iter(range(calls_before_the_kill))
    for owner, name in (*DURABLE_CALLS, (module, "delete_checkpoint")):
        monkeypatch.setattr(owner, name, _killed_when_used_up(getattr(owner, name), left))
    with contextlib.suppress(_Killed):
        write_checkpoint(tmp_path, later)
    monkeypatch.undo()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert read_checkpoint(newest).checkpointed in (made[0].state.checkpointed, later.state.checkpointed)
    assert read_checkpoint(write_checkpoint(tmp_path, later)).checkpointed == later.state.checkpointed
    assert newest_checkpoint(tmp_path) == find_checkpoint(tmp_path, made[0].step)


class _Killed(BaseException):
    """Stands for SIGKILL: no handler for errors runs."""


def _killed_when_used_up(call: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    def killable(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise _Killed
        return call(*arguments)

    return killable
