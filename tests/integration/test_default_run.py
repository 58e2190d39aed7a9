"""``kedro run`` without any setting: the bundled GPT learns more than a bigram model, and everything is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT, environment
from transformer_foundry.core.export.formats.table import FORMAT_FILES, VARIANT_FORMATS


@pytest.mark.slow
def test_the_default_run_beats_the_bigram_baseline_and_leaves_a_verified_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kedro", "run", "--params", f"data_dir={tmp_path}"]
    result = subprocess.run(command, cwd=PROJECT, env=environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "beats a bigram model" in result.stdout
    evaluation = json.loads((tmp_path / "08_reporting/gpt/evaluation.json").read_text())
    for split in ("validation", "test"):
        assert evaluation[split]["loss"] < evaluation["baselines"]["bigram_loss"]
    manifest = json.loads((tmp_path / "07_model_output/gpt/manifest.json").read_text())
    formats = {item["format"]: item["status"] for item in manifest["formats"]}
    assert list(formats) == [*FORMAT_FILES, "transformers"]
    exact = [name for name in formats if name not in VARIANT_FORMATS]
    assert {name: formats[name] for name in exact} == dict.fromkeys(exact, "verified")
