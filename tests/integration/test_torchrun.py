"""Two processes started by torchrun train one model: one speaks, writes and restores, and the other waits for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT, arguments, environment, kedro_run

pytestmark = pytest.mark.slow


def test_two_processes_keep_one_run_and_resume_it_from_drive(tmp_path: Path) -> None:
    assert kedro_run(tmp_path, "validation,data_engineering").returncode == 0
    run_folder = tmp_path / "06_models" / "gpt"
    for max_steps, first_line in ((6, "Training starts"), (12, "Training resumes at step 6")):
        shutil.rmtree(run_folder, ignore_errors=True)  # the second time there is only Drive's copy
        settings = {"training.max_steps": max_steps, "drive.folder": tmp_path / "drive"}
        command = arguments(tmp_path, "training", settings)
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        result = subprocess.run(
            [*launcher, *command[1:]], cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.count(first_line) == 1
        assert result.stdout.count(f"step {max_steps}/{max_steps}") == 1
    steps = [json.loads(line)["step"] for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))
    assert len(json.loads((run_folder / "manifest.json").read_text())["sessions"]) == 2
