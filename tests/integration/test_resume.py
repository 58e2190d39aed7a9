"""A run killed in mid-training and started again ends with the weights and metrics of one that was left alone."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foundry import kedro_run, kill_when
from transformer_foundry.core.training import VOLATILE_METRICS

SETTINGS = {"training.max_steps": 40, "training.save_steps": 5, "training.gradient_accumulation_steps": 2}
PREPARATION = "validation,data_engineering"
NAMES = ("gpt", "gpt-again")

pytestmark = pytest.mark.slow


def run_folder(data_dir: Path) -> Path:
    return data_dir / "06_models" / "gpt"


def rows(data_dir: Path) -> list[dict[str, Any]]:
    lines = (run_folder(data_dir) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in VOLATILE_METRICS} for line in lines]


def final_files(data_dir: Path) -> dict[str, bytes]:
    (checkpoint,) = (run_folder(data_dir) / "checkpoints").glob("step-00000040-*")
    return {name: (checkpoint / name).read_bytes() for name in ("weights.safetensors", "optimizer.safetensors")}


def has_reached(data_dir: Path, step: int) -> bool:
    metrics = run_folder(data_dir) / "metrics.jsonl"
    return metrics.exists() and any(f'"step": {step},' in line for line in metrics.read_text().splitlines())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    result = kedro_run(folder, PREPARATION, SETTINGS)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def uninterrupted(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "data"
    shutil.copytree(prepared, folder)
    assert kedro_run(folder, "training", SETTINGS).returncode == 0
    return folder


def test_a_killed_run_resumes_to_the_same_weights_and_metrics(
    prepared: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(prepared, data_dir)
    for step in (13, 27):
        code = kill_when(lambda step=step: has_reached(data_dir, step), data_dir, "training", SETTINGS)  # type: ignore[misc]
        assert code == -9
    result = kedro_run(data_dir, "training", SETTINGS)
    assert result.returncode == 0, result.stderr
    first = next(
        line for line in result.stdout.splitlines() if line.startswith(("Training starts", "Training resumes"))
    )
    # A checkpoint is written during training: the kill may come before that of step 25 is durable.
    assert first.startswith(
        ("Training resumes at step 25 of 40 (session 3; ", "Training resumes at step 20 of 40 (session 3; ")
    )
    assert "repeated" in first
    assert final_files(data_dir) == final_files(uninterrupted)
    assert rows(data_dir) == rows(uninterrupted)


def test_a_run_whose_folder_is_lost_resumes_from_drive(prepared: Path, uninterrupted: Path, tmp_path: Path) -> None:
    data_dir, drive = tmp_path / "data", tmp_path / "drive"
    settings = SETTINGS | {"drive.folder": drive}
    shutil.copytree(prepared, data_dir)
    copies = drive / "gpt" / "checkpoints"
    code = kill_when(lambda: len(list(copies.glob("*/manifest.json"))) > 1, data_dir, "training", settings)
    assert code == -9
    shutil.rmtree(run_folder(data_dir))
    result = kedro_run(data_dir, "training", settings)
    assert result.returncode == 0, result.stderr
    (report,) = (drive / "files" / "08_reporting" / "gpt" / "report.html").glob("*/report.html")
    assert report.read_bytes() == (data_dir / "08_reporting" / "gpt" / "report.html").read_bytes()
    assert "Restored step" in result.stdout
    assert "Training resumes at step" in result.stdout
    assert final_files(data_dir) == final_files(uninterrupted)
    assert rows(data_dir) == rows(uninterrupted)


def test_sigterm_saves_within_ten_seconds_and_the_run_resumes(
    prepared: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(prepared, data_dir)
    code = kill_when(lambda: has_reached(data_dir, 13), data_dir, "training", SETTINGS, signal.SIGTERM)
    assert code == 143
    log = (data_dir / "killed.log").read_text()
    assert "Terminated." in log
    saved = max(int(path.name.split("-")[1]) for path in (run_folder(data_dir) / "checkpoints").iterdir())
    assert f"Saved: step {saved}." in log
    result = kedro_run(data_dir, "training", SETTINGS)
    assert "nothing was lost" in result.stdout
    assert final_files(data_dir) == final_files(uninterrupted)
    assert rows(data_dir) == rows(uninterrupted)


def test_a_run_done_again_from_its_manifest_is_the_same_to_the_bit(uninterrupted: Path) -> None:
    manifest = run_folder(uninterrupted) / "manifest.json"
    again = {"run.reproduce": manifest, "training.seed": 7}  # what is recorded counts
    result = kedro_run(uninterrupted, f"{PREPARATION},training", again)
    assert result.returncode == 0, result.stderr
    assert "REPRODUCED: final weights and optimizer state are the same to the bit." in result.stdout
    first, second = (json.loads((run_folder(uninterrupted).with_name(n) / "manifest.json").read_text()) for n in NAMES)
    assert first["result"] == second["result"]
