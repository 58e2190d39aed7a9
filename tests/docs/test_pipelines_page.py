"""The project of docs/pipelines.md with two trainings, executed as it is written there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def make_project(folder: Path) -> None:
    """Write the files of the page into a new project that has nothing else."""
    section = (PROJECT / "docs" / "pipelines.md").read_text(encoding="utf-8").partition("## Several trainings")[2]
    files = {name if "/" in name else f"twins/{name}": text for name, text in TITLED.findall(section)}
    tool = {"package_name": "twins", "project_name": "Twins", "kedro_init_version": "1.0.0", "source_dir": "."}
    files["pyproject.toml"] = "\n".join(["[tool.kedro]", *(f"{key} = {json.dumps(tool[key])}" for key in tool)])
    for name, text in {**files, "twins/__init__.py": "", "conf/local/.gitkeep": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for side in ("gpt", "bert"):
        shutil.copytree(PROJECT / "data" / "01_raw" / "exports" / side, folder / "exports" / side)


def test_two_trainings_run_in_a_project_with_the_files_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    make_project(tmp_path)
    command = [sys.executable, "-m", "kedro", "run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    for side in ("gpt", "bert"):
        assert (tmp_path / "data" / "06_models" / side / "manifest.json").is_file()
        results = {path.name for path in (tmp_path / "data" / "08_reporting" / side).iterdir()}
        assert {"evaluation.json", "loss.json", "report.html"} <= results
