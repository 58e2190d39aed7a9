"""The callbacks work in any order, each can be removed, and a user's own callbacks and Kedro hooks work beside them."""

from __future__ import annotations

import io
import itertools
import logging
from pathlib import Path

import pytest
from kedro.framework.hooks import hook_impl

from tests.hooks.runs import Run, weight_of
from transformer_foundry.core.training import Progress
from transformer_foundry.core.training.checkpointing.directory import find_checkpoint
from transformer_foundry.hooks import (
    Callback,
    DriveCallback,
    PreflightCallback,
    ProgressCallback,
    ReportCallback,
    RunContext,
    SummaryCallback,
    WandbCallback,
)

EVALUATION = {"step": 10, "validation": {"loss": 2.5}, "comparisons": []}
OFFLINE = (SummaryCallback, DriveCallback, PreflightCallback, ReportCallback, ProgressCallback)


def train(folder: Path, *callbacks: Callback, hooks: tuple[object, ...] = ()) -> Run:
    """Train for ten steps with a copy; return the run."""
    run = Run(folder / "data", *callbacks, sections={"drive": {"folder": str(folder / "drive")}})
    for hook in hooks:
        run.register(hook)
    run.files["quality"] = {"type": "json.JSONDataset", "filepath": str(folder / "elsewhere" / "quality.json")}
    run.begin(outputs=("quality", "training_run"))
    run.start()
    run.progress(10)
    run.checkpoint(10)
    run.catalog.save("quality", EVALUATION)
    run.show("quality", EVALUATION)
    run.end()
    return run


def make(kind: type[Callback]) -> Callback:
    return ProgressCallback(io.StringIO()) if kind is ProgressCallback else kind()


@pytest.mark.slow
def test_in_any_order_the_report_is_written_then_copied_then_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number, kinds in enumerate(itertools.permutations(OFFLINE)):
        folder, caplog_text = tmp_path / str(number), len(caplog.text)
        train(folder, *map(make, kinds))
        report = folder / "elsewhere/report.html"
        (copied,) = (folder / "drive").rglob("report.html/*/report.html")
        assert copied.read_bytes() == report.read_bytes(), kinds
        assert str(report) in caplog.text[caplog_text:], kinds


@pytest.mark.parametrize("removed", [*OFFLINE, WandbCallback, None])
def test_each_callback_can_be_removed(
    tmp_path: Path, removed: type[Callback] | None, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = [kind for kind in (*OFFLINE, WandbCallback) if kind is not removed]
    run = train(tmp_path, *map(make, kinds))
    assert weight_of(find_checkpoint(run.folder, 10)) == 10.0
    assert (tmp_path / "elsewhere/report.html").exists() == (removed is not ReportCallback)
    assert (tmp_path / "drive/gpt").exists() == (removed is not DriveCallback)
    assert (run.folder / "tracking.json").exists() == (removed is not WandbCallback)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


class Watcher(Callback):
    """A user's callback: it sees each step, and the report is not written yet when it ends."""

    def on_run_start(self, context: RunContext) -> None:
        self.steps: list[int] = []
        self._report = context.paths.report

    def on_progress(self, progress: Progress) -> None:
        self.steps.append(progress.step)

    def on_run_end(self) -> None:
        self.sees_report = self._report.exists()


class UsersHooks:
    """A user's class of Kedro hooks."""

    def __init__(self) -> None:
        self.saved: list[str] = []

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        self.saved.append(dataset_name)


def test_a_users_callback_and_kedro_hooks_work_beside_ours(tmp_path: Path) -> None:
    watcher, hooks = Watcher(), UsersHooks()
    train(tmp_path, *map(make, OFFLINE), watcher, hooks=(hooks,))
    assert (watcher.steps, watcher.sees_report) == ([10], False)
    assert hooks.saved == ["training_run", "training_run", "training_run", "quality"]
