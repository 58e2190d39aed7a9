from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from tests.core.training.tiny import (
    Letters,
    TinyTransformer,
    assert_same_state,
    checkpoints,
    history,
    make_model,
    make_options,
    make_splits,
    steady,
)
from transformer_foundry.core.base.errors import CheckpointError, find_foundry_error
from transformer_foundry.core.training import Checkpoint, Event, Progress, Started, fit
from transformer_foundry.datasets.training_run import TrainingRunDataset


def train(
    folder: Path, *, stop_after: int | None = None, model: Any = None, manifest: Any = None, **changes: Any
) -> list[Event]:
    """What the training node does: go on from the previous run and save every record; maybe die after some."""
    previous, saved = TrainingRunDataset(filepath=str(folder)), TrainingRunDataset(filepath=str(folder))
    records: list[Event] = []
    state = previous.load().latest()
    options = make_options(**{"max_steps": 10, "gradient_accumulation_steps": 2, "save_steps": 3, **changes})
    model = model or make_model()
    for record in fit(model, make_splits(), options, tokenizer=Letters(), resume_from=state, manifest=manifest):
        saved.save(record)
        records.append(record)
        if len(records) == stop_after:
            break
    saved.wait()
    return records


def rows(folder: Path) -> list[dict[str, Any]]:
    return [steady(row) for row in TrainingRunDataset(filepath=str(folder)).load().history]


def read(folder: Path) -> Any:
    return TrainingRunDataset(filepath=str(folder)).load()


def generation_names(folder: Path) -> list[str]:
    """The names of the generations, without the token of the session."""
    return sorted(re.sub("-[0-9a-f]{6}$", "", path.name) for path in (folder / "checkpoints").iterdir())


def generation(folder: Path, step: int) -> Path:
    (found,) = (folder / "checkpoints").glob(f"step-{step:08d}-*")
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def assert_same_run(folder: Path, whole: Path) -> None:
    assert rows(folder) == rows(whole)
    assert read(folder).samples == read(whole).samples
    assert_same_state(read(folder).latest(), read(whole).latest())
    for name in ("weights.safetensors", "optimizer.safetensors"):
        ours, theirs = (generation(path, 10) / name for path in (folder, whole))
        assert ours.read_bytes() == theirs.read_bytes()


@settings(deadline=None, max_examples=8)
@given(kills=st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_a_killed_run_resumes_to_the_same_files(whole: Path, tmp_path_factory: Any, kills: list[int]) -> None:
    folder = tmp_path_factory.mktemp("killed")
    for records in kills:
        train(folder, stop_after=records)
    train(folder)
    assert_same_run(folder, whole)


def test_the_history_has_a_row_for_each_progress_event(tmp_path: Path) -> None:
    records = train(tmp_path)
    expected = [{"step": step, **metrics} for step, metrics, _ in history(records)]
    assert rows(tmp_path) == expected
    assert next(iter(read(tmp_path).history[0])) == "step"
    assert [row["step"] for row in read(tmp_path).samples] == [4, 8, 10]


def test_a_single_checkpoint_is_enough_to_resume_with_all_metrics(whole: Path, tmp_path: Path) -> None:
    train(tmp_path / "first", stop_after=9)
    newest = read(tmp_path / "first").checkpoints[-1]
    shutil.copytree(newest, tmp_path / "second" / "checkpoints" / newest.name)
    assert isinstance(train(tmp_path / "second")[0], Started)
    assert_same_run(tmp_path / "second", whole)


def test_an_incomplete_last_line_is_repaired_when_training_resumes(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, stop_after=7)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "train/lo')
    train(tmp_path)
    assert_same_run(tmp_path, whole)


def test_a_damaged_checkpoint_is_skipped_named_and_kept(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, stop_after=10)
    newest = read(tmp_path).checkpoints[-1]
    (newest / "weights.safetensors").write_bytes(b"noise")
    started = train(tmp_path)[0]
    assert isinstance(started, Started)
    assert newest.name in started.notes[0]
    assert (newest.parent / f"aside-1-{newest.name}").is_dir()
    assert_same_run(tmp_path, whole)


class StoppedInEvaluation(TinyTransformer):
    """Is interrupted in the first evaluation after ``calls`` forward passes of training."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.stop_at = calls

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        if not self.training and int(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        return super().forward(input_ids, attention_mask)


@pytest.mark.parametrize("step", [4, 8, 10])
def test_an_interrupt_in_an_evaluation_leaves_no_trace_after_the_resume(whole: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, model=StoppedInEvaluation(2 * step))
    assert read(tmp_path).latest().step == step
    assert not read(tmp_path).latest().loop.is_recorded
    train(tmp_path)
    assert rows(tmp_path) == rows(whole)
    assert_same_state(read(tmp_path).latest(), read(whole).latest())
    assert_same_state(read(tmp_path).best(), read(whole).best())
    losses = {row["step"]: row["eval/loss"] for row in rows(tmp_path) if "eval/loss" in row}
    assert read(tmp_path).best().step == min(losses, key=losses.__getitem__)


def test_a_damaged_best_checkpoint_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, learning_rate=1.0, max_steps=400, early_stopping_patience=2)
    best, newest = read(tmp_path).best().step, read(tmp_path).latest().step
    assert best < newest
    damaged = generation(tmp_path, best)
    (damaged / "weights.safetensors").write_bytes(b"noise")
    run = read(tmp_path)
    assert [run.best().step, run.best().step] == [newest, newest]
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]
    assert f"{damaged.name} is damaged" in caplog.text
    assert str(tmp_path) in caplog.text


def test_a_damaged_newest_checkpoint_is_reported_once_by_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path)
    newest = read(tmp_path).checkpoints[-1]
    (newest / "state.json").unlink()
    assert read(tmp_path).latest().notes == (
        f"The checkpoint {newest.name} is damaged: state.json is missing. It is skipped and kept.",
    )
    assert caplog.text == ""


def test_the_last_and_the_best_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, save_total_limit=1, learning_rate=0.5, max_steps=20)
    run = read(tmp_path)
    steps = {run.latest().step, run.best().step}
    assert generation_names(tmp_path) == [f"step-{step:08d}" for step in sorted(steps)]
    losses = {row["step"]: row["eval/loss"] for row in run.history if "eval/loss" in row}
    assert losses[run.best().step] == min(losses.values())


def test_the_catalog_can_set_how_many_checkpoints_are_kept(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path), keep=3)
    for record in fit(make_model(), make_splits(validation=0), make_options(save_steps=1, save_total_limit=1)):
        dataset.save(record)
    dataset.wait()
    assert generation_names(tmp_path) == ["step-00000010", "step-00000011", "step-00000012"]


def test_the_manifest_lists_the_sessions(tmp_path: Path) -> None:
    train(tmp_path, stop_after=4)
    train(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [session["step"] for session in manifest["sessions"]] == [0, 3]
    assert manifest["identity"] == {"data": "f" * 64}


def test_the_manifest_has_the_lost_steps_of_each_session(tmp_path: Path) -> None:
    train(tmp_path, stop_after=6, logging_steps=1)
    train(tmp_path, logging_steps=1)
    sessions = json.loads((tmp_path / "manifest.json").read_text())["sessions"]
    assert [(session["number"], session["lost_steps"]) for session in sessions] == [(1, 0), (2, 1)]
    assert sessions[1]["fence"] > sessions[0]["fence"]


def test_the_manifest_of_a_finished_run_has_the_digests_of_its_result(tmp_path: Path) -> None:
    train(tmp_path)
    expected = hashlib.sha256((generation(tmp_path, 10) / "weights.safetensors").read_bytes()).hexdigest()
    assert read(tmp_path).manifest["result"]["sha256"]["weights.safetensors"] == expected
    train(tmp_path)
    assert read(tmp_path).manifest["result"]["step"] == 10


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DatasetError) as caught:
        train(tmp_path)
    found = find_foundry_error(caught.value)
    assert found is not None
    assert "too little free space" in found.problem
    assert read(tmp_path).history == []


def test_a_return_to_a_checkpoint_is_no_new_session(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path))
    for record in fit(make_model(), make_splits(), make_options()):
        dataset.save(record)
    dataset.save(Started(4, 12, True, {}, ("back to step 4",)))
    dataset.wait()
    assert len(read(tmp_path).manifest["sessions"]) == 1
    assert read(tmp_path).history[-1]["step"] == 4


def test_a_fork_starts_from_the_checkpoint_of_another_run(tmp_path: Path) -> None:
    train(tmp_path / "old")
    run = TrainingRunDataset(filepath=str(tmp_path / "new"), fork_from="old").load()
    state = run.latest()
    assert state is not None
    assert state.step == 10
    assert state.forked_from == str(generation(tmp_path / "old", 10))


def test_the_manifest_has_the_parameters_of_all_sections(tmp_path: Path) -> None:
    sections = {"model": {"source": "gpt"}, "data": {"seed": 3}, "training": {"seed": 99}}
    train(tmp_path, manifest={"parameters": sections}, max_steps=3)
    parameters = json.loads((tmp_path / "manifest.json").read_text())["parameters"]
    assert parameters == {
        "model": {"source": "gpt"},
        "data": {"seed": 3},
        "training": dataclasses.asdict(make_options(max_steps=3, gradient_accumulation_steps=2, save_steps=3)),
    }


def test_a_manifest_that_cannot_be_read_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, stop_after=1)  # there is no checkpoint yet from which to restore it
    (tmp_path / "manifest.json").write_text('{"sessions": [')
    assert read(tmp_path).manifest == {}
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]
    assert str(tmp_path / "manifest.json") in caplog.text


def test_a_kill_while_the_manifest_is_replaced_leaves_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, stop_after=4)
    before = read(tmp_path).manifest

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert read(tmp_path).manifest == before


def test_a_run_that_starts_again_keeps_the_old_checkpoints_aside(tmp_path: Path) -> None:
    train(tmp_path, stop_after=4)
    dataset = TrainingRunDataset(filepath=str(tmp_path))
    dataset.save(next(iter(fit(make_model(), make_splits(), make_options()))))
    assert generation_names(tmp_path) == ["aside-1-step-00000003"]
    assert read(tmp_path).history == []


def test_a_run_that_has_not_started_is_empty(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path / "nowhere"))
    run = dataset.load()
    assert (run.history, run.samples, run.manifest, run.checkpoints) == ([], [], {}, [])
    assert run.latest() is None
    assert run.best() is None
    assert not dataset.exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_run_without_a_checkpoint_cannot_be_evaluated_or_packaged(tmp_path: Path) -> None:
    run = TrainingRunDataset(filepath=str(tmp_path / "gpt")).load()
    with pytest.raises(CheckpointError, match="The run gpt has no checkpoint"):
        run.require_best()


def test_a_run_exists_once_it_can_be_resumed(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path))
    train(tmp_path, stop_after=2)
    assert not dataset.exists()
    train(tmp_path)
    assert dataset.exists()


def test_something_else_than_an_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dict is not an event"):
        TrainingRunDataset(filepath=str(tmp_path)).save({})  # type: ignore[arg-type]


def test_an_expected_error_is_found_inside_kedro_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_foundry.core.training.checkpointing import checkpoint as files

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_state", full)
    with pytest.raises(DatasetError) as caught:
        train(tmp_path)
    assert isinstance(find_foundry_error(caught.value), CheckpointError)


def test_a_folder_that_cannot_be_written_is_an_expected_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError) as caught:
        train(tmp_path / "file" / "run")
    assert isinstance(find_foundry_error(caught.value), CheckpointError)


def test_an_interrupted_session_ends_with_a_checkpoint_that_is_kept(tmp_path: Path) -> None:
    def until_interrupt(records: Iterable[Event]) -> None:
        dataset = TrainingRunDataset(filepath=str(tmp_path))
        for record in records:
            dataset.save(record)

    class Stopped(type(make_model())):  # type: ignore[misc]
        def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
            if int(self.calls) == 5:
                raise KeyboardInterrupt
            return super().forward(input_ids, attention_mask)

    with pytest.raises(KeyboardInterrupt):
        until_interrupt(fit(Stopped(), make_splits(), make_options(save_steps=None, eval_steps=None)))
    assert read(tmp_path).latest().step == 5


def test_the_dataset_describes_itself_without_reading(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path))
    assert str(tmp_path) in repr(dataset)
    assert dataset.folder == tmp_path


def test_the_preview_draws_the_losses(whole: Path) -> None:
    figure = TrainingRunDataset(filepath=str(whole)).preview()
    drawn = {trace["name"]: list(trace["x"]) for trace in figure["data"]}
    assert drawn["training"] == [row["step"] for row in read(whole).history]
    assert drawn["validation"] == [4, 8, 10]


def test_events_carry_what_callbacks_need() -> None:
    records = list(fit(make_model(), make_splits(), make_options()))
    assert all(isinstance(value, float) for r in records if isinstance(r, Progress) for value in r.metrics.values())
    assert [type(record) for record in records[:2]] == [Started, Progress]
    assert isinstance(checkpoints(records)[0], Checkpoint)


def test_a_run_exists_when_its_training_has_ended(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path))
    assert (dataset.exists(), dataset.is_readable()) == (False, False)
    train(tmp_path, stop_after=6)
    assert (dataset.exists(), dataset.is_readable()) == (False, True)
    train(tmp_path)
    assert dataset.exists()


def test_a_run_that_gets_more_steps_exists_when_they_are_taken(tmp_path: Path) -> None:
    dataset = TrainingRunDataset(filepath=str(tmp_path))
    train(tmp_path)
    train(tmp_path, max_steps=20, stop_after=1)
    assert not dataset.exists()
    train(tmp_path, max_steps=20)
    assert dataset.exists()


def test_a_run_whose_last_checkpoint_is_damaged_does_not_exist(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    weights = generation(tmp_path / "run", 10) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not TrainingRunDataset(filepath=str(tmp_path / "run")).exists()


def test_a_run_of_a_thousand_rows_is_shown_in_a_line(whole: Path) -> None:
    shown = repr(read(whole))
    assert "step 10 of 10" in shown
    assert len(shown.replace(str(whole), "")) < 100


def run_manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_text(""),
    "altered": lambda path: path.write_text(path.read_text().replace('"total_steps": 10', '"total_steps": 12')),
    "a list": lambda path: path.write_text("[]"),
}


@pytest.mark.parametrize("stop_after", [None, 9])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_manifest_that_is_lost_comes_back_from_the_newest_checkpoint(
    tmp_path: Path, damage: str, stop_after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, stop_after=stop_after)
    before = run_manifest(tmp_path)
    DAMAGES[damage](tmp_path / "manifest.json")
    run = read(tmp_path)
    assert run_manifest(tmp_path) == before
    assert run.manifest == {name: value for name, value in before.items() if name != "seal"}
    assert "manifest.json is " in caplog.text
    assert len(list(tmp_path.glob("manifest-aside-1.json"))) == (damage != "deleted")
    train(tmp_path, max_steps=12)
    assert [session["number"] for session in run_manifest(tmp_path)["sessions"]] == [1, 2]


def test_a_run_manifest_of_an_earlier_version_has_no_seal_and_is_read(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    manifest = run_manifest(folder)
    del manifest["seal"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert read(folder).manifest == manifest


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_rows_that_are_lost_or_altered_come_back_from_the_newest_checkpoint(
    whole: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = shutil.copytree(whole, tmp_path / "run") / name
    before = log.read_bytes()
    for damage in (b"", before[: len(before) // 2], before.replace(b"step", b"stop")):
        log.write_bytes(damage)
        read(tmp_path / "run")
        assert log.read_bytes() == before
    assert caplog.text.count(f"{name} is damaged and kept as") == 1
