"""The beginning of a session on Colab, with a stub of Colab's own module in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.colab.session import STUB
from tests.integration.foundry import PROJECT

PROGRAM = """
import os, sys
import google
google.__path__.append(sys.argv[1])
from transformer_foundry.colab import open_session
open_session(use_drive=True)
print("environment:", os.environ.get("HF_TOKEN"), os.environ.get("WANDB_API_KEY"))
"""


def session(**env: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(STUB / "google")]
    return subprocess.run(
        command, cwd=PROJECT, env=os.environ | env, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_a_secret_is_put_where_other_programs_see_it_and_refusals_are_told() -> None:
    printed = session()
    assert "environment: hf_stub None" in printed
    assert "Keys found: HF_TOKEN" in printed
    assert "WANDB_API_KEY is not used (NotebookAccessError)" in printed
    assert "GITHUB_TOKEN is not used" not in printed


def test_a_key_of_the_environment_goes_before_the_secret() -> None:
    assert "environment: own None" in session(HF_TOKEN="own")


def test_a_drive_that_cannot_be_mounted_is_told_and_the_session_goes_on() -> None:
    assert "Drive: not mounted (mount failed" in session()
