"""One command takes an exported model of each kind to a trained, verified package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foundry import kedro_run
from transformer_foundry.core.export import FORMAT_FILES

pytestmark = pytest.mark.slow


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["gpt", "bert", "t5"])
def test_a_sample_is_trained_and_packaged(name: str, tmp_path: Path) -> None:
    result = kedro_run(tmp_path, settings={"model.source": f"data/01_raw/exports/{name}"})
    assert result.returncode == 0, result.stdout + result.stderr
    reports, run, package = (tmp_path / folder / name for folder in ("08_reporting", "06_models", "07_model_output"))
    assert read(reports / "validation_report.json")["status"] == "pass"
    assert read(reports / "data_profile.json")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 12
    assert rows[-1]["eval/loss"] < rows[0]["train/loss"]
    assert list((run / "checkpoints").glob("step-*/manifest.json"))
    for figure in ("loss", "learning_rate", "gradient_norm"):
        assert read(reports / f"{figure}.json")["data"]
    formats = {item["format"]: item["status"] for item in read(package / "manifest.json")["formats"]}
    assert formats == dict.fromkeys((*FORMAT_FILES, "transformers"), "verified")
    assert (package / "README.md").exists()


def test_tuning_after_training_finds_parameters_that_a_new_training_uses(tmp_path: Path) -> None:
    settings = {"tuning.n_trials": 3, "tuning.max_steps": 8, "tuning.confirm_steps": 4}
    assert kedro_run(tmp_path, "validation,data_engineering,training", settings).returncode == 0
    result = kedro_run(tmp_path, "tuning", settings)
    assert result.returncode == 0, result.stderr
    best = read(tmp_path / "06_models" / "gpt" / "tuning" / "best_parameters.json")
    assert read(tmp_path / "08_reporting" / "gpt" / "search_history.json")["data"]
    result = kedro_run(tmp_path, "training", settings | {"training.use_best": "true"})
    assert result.returncode == 0, result.stderr
    used = read(tmp_path / "06_models" / "gpt-best" / "manifest.json")["parameters"]["training"]
    assert {name: used[name] for name in best["parameters"]} == best["parameters"]
