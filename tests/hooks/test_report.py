"""At the end of a command, and after a failure, the report of the run is there."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pandas
import pytest
from kedro.framework.project import pipelines

from tests.core.reports.runs import FILES, write_run
from tests.hooks.runs import Run
from transformer_foundry.hooks import ReportCallback
from transformer_foundry.hooks.kedro_hooks import report_interrupted
from transformer_foundry.hooks.report import MADE_BY
from transformer_foundry.hooks.run_context import function_of, make_run_contexts
from transformer_foundry.hooks.run_context.flow import types_of_outputs
from transformer_foundry.pipeline_registry import register_pipelines

OURS = "transformer_foundry.datasets"


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


def test_the_report_of_before_says_so_while_a_command_runs_and_after_it_was_killed(tmp_path: Path) -> None:
    begin(write_run(tmp_path)).end()
    assert "state before" not in report_of(tmp_path).read_text()
    run = begin(tmp_path)
    assert report_of(tmp_path).read_text().count("This page shows the state before it") == 1
    run.end()
    assert "state before" not in report_of(tmp_path).read_text()


def test_every_part_of_the_report_that_a_node_makes_is_an_output_of_a_pipeline() -> None:
    nodes = [node for pipeline in register_pipelines().values() for node in pipeline.nodes]
    made = {(function_of(node), kind) for node in nodes for kind in types_of_outputs(node).values()}
    assert set(MADE_BY.values()) <= made


def test_results_are_shown_from_any_type_of_dataset_and_not_from_older_files(tmp_path: Path) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    older = {"08_reporting/gpt/samples.json": {"step": 40, "task": "causal_lm", "samples": ["an older text"]}}
    entries = {
        "error_analysis": {
            "type": "json.JSONDataset",
            "filepath": str(report_of(tmp_path).with_name("error_analysis.json")),
        },
        "evaluation": {"type": "pickle.PickleDataset", "filepath": str(tmp_path / "elsewhere.pkl")},
        "samples": {"type": "MemoryDataset"},
        "trials": {"type": "pandas.JSONDataset", "filepath": str(tmp_path / "trials.json")},
        "best_parameters": {"type": "json.JSONDataset", "filepath": str(tmp_path / "best.json")},
    }
    run = Run(write_run(tmp_path, FILES | older), ReportCallback())
    run.files = dict(entries)
    run.begin()
    written = {
        name: json.loads(report_of(tmp_path).with_name(f"{name}.json").read_text())
        for name in ("evaluation", "samples")
    }
    run.catalog.save("trials", pandas.DataFrame([{"number": 4, "state": "complete", "loss": 3.25}]))
    for result in written.values():
        result.pop("content_digest", None)  # of the older content
    evaluation = written["evaluation"] | {"validation": {"loss": 4.2, "perplexity": 55.5}}
    run.catalog.save("evaluation", evaluation)
    run.show("evaluation", evaluation)
    run.show("samples", written["samples"] | {"samples": ["a new text"]})  # released: no node reads it
    run.end()
    shown = report_of(tmp_path).read_text()
    assert "55.5" in shown
    assert "66.7" not in shown
    assert "a new text" in shown
    assert "an older text" not in shown
    assert {"elsewhere.pkl", "trials.json"} <= {
        href.rpartition("/")[2] for href in re.findall(r'href="([^"]+)"', shown)
    }
    assert "./evaluation.json" not in shown
    assert "./trials.csv" not in shown
    run = Run(tmp_path, ReportCallback())
    run.files = dict(entries)
    run.begin()
    run.end()
    assert "55.5" in report_of(tmp_path).read_text()
    assert "an older text" not in report_of(tmp_path).read_text()


def test_a_package_is_shown_from_its_newest_version_with_the_registry_of_the_catalog(tmp_path: Path) -> None:
    pipelines.configure("transformer_foundry.pipeline_registry")
    run = Run(write_run(tmp_path), ReportCallback())
    package, registry = tmp_path / "elsewhere" / "gpt", tmp_path / "shared"
    run.files = {
        "model_package": {"type": f"{OURS}.PackageDataset", "filepath": str(package), "versioned": True},
        "model_registry": {"type": f"{OURS}.RegistryDataset", "filepath": str(registry)},
    }
    run.begin()
    made = package / "2026-01-31T12.00.00.000Z" / "gpt"
    made.parent.mkdir(parents=True)
    (tmp_path / "07_model_output" / "gpt").rename(made)
    run.end()
    shown = report_of(tmp_path).read_text()
    assert "2026-01-31T12.00.00.000Z/gpt/README.md" in shown
    assert "Package and parity" in shown
    (context,) = make_run_contexts({"parameters": run.parameters}, {}, pipelines["deployment"], run.catalog)
    assert (context.paths.package, context.paths.registry) == (made, registry)
