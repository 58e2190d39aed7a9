"""At the end of a command, and after a failure, the report of the run is there."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.core.reports.runs import write_run
from transformer_foundry.hooks.report import ReportHooks, report_interrupted


def begin(data_dir: Path) -> ReportHooks:
    hooks = ReportHooks()
    parameters = {"data_dir": str(data_dir), "run": {"name": "gpt", "preparation": "gpt"}}
    hooks.after_context_created(SimpleNamespace(config_loader={"parameters": parameters}))
    return hooks


def test_a_command_ends_with_the_report(tmp_path: Path) -> None:
    begin(write_run(tmp_path)).after_pipeline_run()
    assert "TinyGPT" in (tmp_path / "08_reporting/gpt/report.html").read_text()


def test_a_command_that_failed_says_where_the_report_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    begin(write_run(tmp_path)).on_pipeline_error()
    assert str(tmp_path / "08_reporting/gpt/report.html") in caplog.text


def test_a_run_that_is_stopped_has_a_report_of_what_there_is(tmp_path: Path) -> None:
    begin(write_run(tmp_path)).before_pipeline_run()
    report_interrupted()
    assert "TinyGPT" in (tmp_path / "08_reporting/gpt/report.html").read_text()


def test_a_stop_after_the_end_writes_no_second_report(tmp_path: Path) -> None:
    hooks = begin(write_run(tmp_path))
    hooks.before_pipeline_run()
    hooks.after_pipeline_run()
    (tmp_path / "08_reporting/gpt/report.html").unlink()
    report_interrupted()
    assert not (tmp_path / "08_reporting/gpt/report.html").exists()


def test_only_the_first_of_several_processes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    begin(write_run(tmp_path)).after_pipeline_run()
    assert not (tmp_path / "08_reporting/gpt/report.html").exists()


def test_a_report_that_cannot_be_written_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (write_run(tmp_path) / "08_reporting/gpt/report.html").mkdir()
    begin(tmp_path).after_pipeline_run()
    assert "The report was not written" in caplog.text
