"""Every command does what is missing and reuses what is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import command_server
from tests.integration.foundry import PROJECT, arguments, environment, kedro_run


def plan(data_dir: Path, pipelines: str = "", settings: dict[str, object] | None = None) -> dict[str, str]:
    """What ``kedro plan`` prints: the sentence of each stage."""
    command = ["plan" if part == "run" else part for part in arguments(data_dir, pipelines, settings)]
    result = command_server.run(command, PROJECT, environment())
    assert result.returncode == 0, result.stderr
    return dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[1:])


def test_a_plan_for_an_empty_folder_runs_everything_and_writes_nothing(tmp_path: Path) -> None:
    planned = plan(tmp_path / "data")
    assert list(planned) == ["validation", "data_engineering", "training", "evaluation", "deployment"]
    assert all("would" in sentence for sentence in planned.values())
    assert not (tmp_path / "data").exists()


def test_a_stage_alone_is_refused_if_its_inputs_are_missing(tmp_path: Path) -> None:
    result = kedro_run(tmp_path, "--namespaces training")
    assert result.returncode == 2
    assert "token_splits" in result.stderr
    assert len(result.stderr.splitlines()) == 3


@pytest.mark.slow
def test_training_in_an_empty_folder_makes_what_it_needs(tmp_path: Path) -> None:
    result = kedro_run(tmp_path, "training")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "06_models" / "gpt" / "checkpoints").glob("step-*/manifest.json"))


@pytest.mark.slow
def test_a_second_command_reuses_what_is_up_to_date(tmp_path: Path) -> None:
    assert kedro_run(tmp_path, "training").returncode == 0
    kept = ("08_reporting/gpt/validation.png", "08_reporting/gpt/evaluation.json", "05_model_input/gpt/contract.json")
    before = [(tmp_path / name).read_bytes() for name in kept]
    result = kedro_run(tmp_path, "training")
    assert result.returncode == 0, result.stderr
    for stage in ("validation", "data_engineering", "evaluation"):
        assert f"{stage}: up to date" in result.stdout
    assert [(tmp_path / name).read_bytes() for name in kept] == before
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert all(sentence.startswith("up to date") for sentence in plan(tmp_path, "training").values())
    longer = plan(tmp_path, "training", {"training.max_steps": 20})
    assert "at step 12 of 20, because training.max_steps is 20" in longer["training"]
    assert longer["validation"].startswith("up to date")
    other = plan(tmp_path, "training", {"model.source": "data/01_raw/exports/bert", "run.name": "gpt"})
    assert other["training"].startswith("would start  gpt-2")
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
