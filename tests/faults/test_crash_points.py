"""A crash at every file-system call of a save, torn writes included, leaves a state to resume from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def crash(*arguments: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "tests.faults.crash_points", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_no_crash_leaves_an_unusable_state() -> None:
    reports = crash("first-save", "save", "drive", "--torn")
    assert [report["why"] for report in reports] == [{}, {}, {}]
    assert all(report["ends"] == {"killed": report["calls"]} for report in reports)
