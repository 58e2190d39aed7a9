"""kedro-viz draws the pipelines with the tables and figures of a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT, environment
from transformer_foundry.core.reports.training_curves import loss_figure

LAYERS = ["raw", "intermediate", "validation", "primary", "model_input", "models", "reporting", "model_output"]


@pytest.mark.slow
def test_a_static_site_is_built_with_previews_of_the_figures(tmp_path: Path) -> None:
    for name in ("src", "conf", "data/01_raw/exports"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    reports = tmp_path / "data" / "08_reporting" / "gpt"
    reports.mkdir(parents=True)
    (reports / "loss.json").write_text(loss_figure([{"step": 1, "train/loss": 2.0}], {"bigram": 3.0}).to_json())

    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    printed = result.stdout + result.stderr
    assert [word for word in ("circular", "could not be previewed", "deprecated") if word in printed] == []
    site = tmp_path / "build" / "api"
    graph = json.loads((site / "main").read_text())
    shown = {node["name"]: node["id"] for node in graph["nodes"]}
    assert {"check_model", "train_model", "make_package", "loss_figure"} <= shown.keys()
    assert graph["layers"] == LAYERS
    # kedro-viz shows no layers if one comes both before and after another, a collapsed box being one node.
    assert all(json.loads(path.read_text())["layers"] for path in (site / "pipelines").iterdir())
    boxes = {child["id"] for child in graph["modular_pipelines"]["__root__"]["children"] if "Pipeline" in child["type"]}
    assert boxes == {"validation", "data_engineering", "training", "deployment"}
    assert all(re.fullmatch(r"(params:)?[a-z_]+", name) for name in shown), shown.keys()
    preview = json.loads((site / "nodes" / shown["loss_figure"]).read_text())
    assert preview["preview_type"] == "PlotlyPreview"
    assert preview["preview"]["data"][0]["y"] == [2.0]
