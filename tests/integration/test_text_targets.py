"""A model with one output learns the numbers of a csv, through the real command up to the package."""

from __future__ import annotations

import json

import pytest

from tests.core.training.test_text_targets import write_export, write_numbers
from tests.integration.foundry import kedro_run


@pytest.mark.slow
def test_numbers_of_a_csv_are_learned_published_and_reported(tmp_path):
    export, data = write_export(tmp_path / "export", 1), write_numbers(tmp_path / "scores.csv")
    settings = {
        "model.source": export, "data.source": data, "data.max_documents": 900, "data.tokenizer": "word",
        "run.name": "scores", "training.max_steps": 120, "training.eval_steps": 60,
        "training.per_device_train_batch_size": 16, "training.learning_rate": 0.003,
    }  # fmt: skip
    done = kedro_run(tmp_path / "data", settings=settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Each text has a number (column score), as the model has one output" in done.stdout + done.stderr
    reports = tmp_path / "data" / "08_reporting" / "scores"
    evaluation = json.loads((reports / "evaluation.json").read_text())
    assert {item["baseline"] for item in evaluation["comparisons"]} == {"mean_loss", "mean_rmse", "median_mae"}
    assert all(item["is_beaten"] for item in evaluation["comparisons"])
    page = (reports / "report.html").read_text()
    assert "root mean squared error" in page
    assert "Loss, variances of the training numbers" in page
    assert "nats per target" not in page
    manifest = json.loads((tmp_path / "data" / "07_model_output" / "scores" / "manifest.json").read_text())
    formats = {entry["format"]: entry["status"] for entry in manifest["formats"]}
    assert {formats[name] for name in ("pytorch", "pt2", "onnx", "transformers")} == {"verified"}
    assert manifest["model"]["task"] == "regression"
