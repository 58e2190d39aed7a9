"""A session that is stopped copies what it has and lets the next machine train at once."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.runs import Run
from tests.integration.foundry import kill_when
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of
from transformer_foundry.hooks import Callback, DriveCallback
from transformer_foundry.hooks.drive import callback as drive_callback
from transformer_foundry.hooks.kedro_hooks import report_interrupted


def lease_of(copy: Path) -> dict[str, Any]:
    lease: dict[str, Any] = json.loads((copy / "lease.json").read_text())
    return lease


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_process_leaves_its_last_checkpoint_and_a_free_lease(
    tmp_path: Path, number: int, exit_code: int
) -> None:
    copy, metrics = tmp_path / "drive/gpt", tmp_path / "data/06_models/gpt/metrics.jsonl"
    settings = {
        "data.max_documents": 60,
        "training.max_steps": 5000,
        "training.save_steps": 5000,
        "training.eval_steps": 5000,
        "drive.folder": tmp_path / "drive",
    }

    def has_trained() -> bool:
        return metrics.is_file() and metrics.read_text().count("\n") >= 3

    assert kill_when(has_trained, tmp_path / "data", "training", settings, number) == exit_code
    assert lease_of(copy)["released"]
    (own,) = list_checkpoints(tmp_path / "data/06_models/gpt")
    assert [step_of(path) for path in list_checkpoints(copy)] == [step_of(own)]


def started(tmp_path: Path, *others: Callback) -> Run:
    run = Run(tmp_path / "data", DriveCallback(), *others, sections={"drive": {"folder": str(tmp_path / "drive")}})
    run.begin()
    run.start()
    run.checkpoint(10)
    return run


def test_an_interrupt_releases_lock_and_lease(tmp_path: Path) -> None:
    started(tmp_path)
    report_interrupted()
    assert lease_of(tmp_path / "drive/gpt")["released"]
    started(tmp_path)


def test_an_interrupted_notebook_does_not_wait_but_ends_the_copy_before_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive_callback, "in_notebook", lambda: True)
    run = started(tmp_path)
    report_interrupted()
    first = lease_of(tmp_path / "drive/gpt")
    assert not first["released"]
    run.begin()
    assert lease_of(tmp_path / "drive/gpt")["token"] != first["token"]
    assert len(list_checkpoints(tmp_path / "drive/gpt")) == 1


class FailingDrive(DriveCallback):
    def on_file_saved(self, path: Path) -> None:
        raise ZeroDivisionError(path.name)


def test_an_error_of_the_copy_neither_frees_the_run_nor_stops_the_copy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path / "data", FailingDrive(), sections={"drive": {"folder": str(tmp_path / "drive")}})
    run.files["quality"] = {"type": "json.JSONDataset", "filepath": str(tmp_path / "quality.json")}
    run.begin(outputs=("quality", "training_run"))
    run.start()
    for _ in range(2):
        run.show("quality", {})
    assert caplog.text.count("The copy to Drive has failed, and is called again for what comes next: Zero") == 1
    assert not lease_of(tmp_path / "drive/gpt")["released"]
    run.checkpoint(10)
    run.end()
    assert lease_of(tmp_path / "drive/gpt")["released"]
    assert len(list_checkpoints(tmp_path / "drive/gpt")) == 1


def test_the_writer_of_checkpoints_is_waited_for_before_the_last_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(tmp_path)
    waited: list[bool] = []
    monkeypatch.setattr(run.dataset, "wait", lambda: waited.append(True))
    run.end()
    assert waited == [True]
