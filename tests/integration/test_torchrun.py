"""Two processes started by torchrun train one model: one of them speaks and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT, arguments, environment, kedro_run

pytestmark = pytest.mark.slow


def test_two_processes_keep_one_run_and_resume_it(tmp_path: Path) -> None:
    assert kedro_run(tmp_path, "validation,data_engineering").returncode == 0
    for max_steps, first_line in ((6, "STARTS"), (12, "CONTINUES")):
        command = arguments(tmp_path, "training", {"training.max_steps": max_steps})
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        result = subprocess.run(
            [*launcher, *command[1:]], cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.count(first_line) == 1
        assert result.stdout.count(f"step {max_steps}/{max_steps}") == 1
    run_folder = tmp_path / "06_models" / "gpt"
    steps = [json.loads(line)["step"] for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))
    assert len(json.loads((run_folder / "manifest.json").read_text())["sessions"]) == 2
