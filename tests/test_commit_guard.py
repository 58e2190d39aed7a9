"""The pre-commit hook refuses secrets and notebooks with outputs, and nothing that is in the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT


def guard(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / ".ci" / "commit_guard.py"), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "a" * 34,
        "ghp_" + "b" * 36,
        "WANDB_API_KEY=" + "0f" * 20,
        "wandb_v1_" + "0f" * 20,
        "-----BEGIN RSA PRIVATE KEY" + "-----",
    ],
)
def test_a_secret_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(f"one\ntoken: {text}\n")
    answer = guard(path)
    assert answer.returncode == 1
    assert "notes.md line 2" in answer.stderr
    assert text not in answer.stderr


def test_a_notebook_with_outputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": [{}], "source": []}]}))
    assert "clear them" in guard(path).stderr


def test_credentials_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "credentials.yml"
    path.write_text("a: b\n")
    assert guard(path).returncode == 1


def test_what_the_project_ships_passes() -> None:
    shipped = [path for folder in ("src", "conf", "notebooks", "docs") for path in (PROJECT / folder).rglob("*.*")]
    shipped = [path for path in shipped if path.suffix in (".py", ".yml", ".ipynb", ".md")]
    answer = guard(*[path for path in shipped if path.name != "credentials.yml"])
    assert answer.returncode == 0, answer.stderr


def test_pre_commit_runs_it_on_every_commit() -> None:
    assert "entry: python3 .ci/commit_guard.py" in (PROJECT / ".pre-commit-config.yaml").read_text()
