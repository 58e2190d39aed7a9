"""The setup of a session on Colab, with a stub of Colab's module in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.colab.session import STUB
from tests.integration.foundry import PROJECT
from transformer_foundry.console.colab import pin_installed

PROGRAM = """
import os, sys
import google
google.__path__.append(sys.argv[1])
from transformer_foundry.console.colab import open_session
open_session(use_drive=True)
print("environment:", os.environ.get("HF_TOKEN"), os.environ.get("WANDB_API_KEY"))
"""


def session(**env: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(STUB / "google")]
    return subprocess.run(
        command, cwd=PROJECT, env=os.environ | env, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_a_secret_becomes_an_environment_variable_and_a_refusal_is_printed() -> None:
    printed = session()
    assert "environment: hf_stub None" in printed
    assert "Keys found: HF_TOKEN" in printed
    assert "WANDB_API_KEY is not used (NotebookAccessError)" in printed
    assert "GITHUB_TOKEN is not used" not in printed


def test_a_key_of_the_environment_goes_before_the_secret() -> None:
    assert "environment: own None" in session(HF_TOKEN="own")


def test_a_drive_that_cannot_be_mounted_prints_one_line_and_the_session_continues() -> None:
    assert "Drive: not mounted (mount failed" in session()


def test_the_pins_are_the_versions_that_python_would_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name, version in (("own", "Py_YAML", "6.0"), ("system", "py-yaml", "5.4")):
        metadata = tmp_path / folder / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "own"), str(tmp_path / "system")])
    assert Path(pin_installed(str(tmp_path / "live.txt"))).read_text() == "py-yaml==6.0\n"
