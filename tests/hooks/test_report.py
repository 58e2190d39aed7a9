"""At the end of a command, and after a failure, the report of the run is there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.core.reports.runs import write_run
from tests.hooks.runs import Run
from transformer_foundry.hooks import ReportCallback
from transformer_foundry.hooks.kedro_hooks import report_interrupted


def begin(data_dir: Path) -> Run:
    run = Run(data_dir, ReportCallback())
    run.begin()
    return run


def report_of(data_dir: Path) -> Path:
    return data_dir / "08_reporting/gpt/report.html"


def test_a_command_ends_with_the_report(tmp_path: Path) -> None:
    begin(write_run(tmp_path)).end()
    assert "TinyGPT" in report_of(tmp_path).read_text()


def test_a_command_that_failed_logs_where_the_report_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    begin(write_run(tmp_path)).fail()
    assert str(report_of(tmp_path)) in caplog.text


def test_a_run_that_is_stopped_has_a_report_of_what_there_is(tmp_path: Path) -> None:
    begin(write_run(tmp_path))
    report_interrupted()
    assert "TinyGPT" in report_of(tmp_path).read_text()


def test_a_stop_after_the_end_writes_no_second_report(tmp_path: Path) -> None:
    begin(write_run(tmp_path)).end()
    report_of(tmp_path).unlink()
    report_interrupted()
    assert not report_of(tmp_path).exists()


def test_only_the_first_of_several_processes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    begin(write_run(tmp_path)).end()
    assert not report_of(tmp_path).exists()


def test_a_report_that_cannot_be_written_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report_of(write_run(tmp_path)).mkdir()
    begin(tmp_path).end()
    assert "The report is off for the rest of this run" in caplog.text
