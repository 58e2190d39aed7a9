"""The whole data folder is gone, and with Drive's copy the same commands come to the same result."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.integration.foundry import kedro_run, kill_when

SETTINGS = {
    "training.max_steps": 8,
    "training.num_samples": 0,
    "tuning.n_trials": 5,
    "tuning.max_steps": 6,
    "tuning.confirm_steps": 4,
    "data.max_documents": 200,
}
PREPARATION = "validation,data_engineering"

pytestmark = pytest.mark.slow


def finished_trials(database: Path) -> int:
    """Trials that are complete in the newest copy of the study; 0 if there is none."""
    if not database.is_file():
        return 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as study:
        return int(study.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
    return 0


def test_a_search_whose_machine_is_gone_redoes_at_most_one_trial(tmp_path: Path) -> None:
    data_dir, drive = tmp_path / "data", tmp_path / "drive"
    settings = SETTINGS | {"drive.folder": drive}
    assert kedro_run(data_dir, PREPARATION, settings).returncode == 0
    live = data_dir / "06_models" / "gpt" / "tuning" / "study.db"
    kill_when(lambda: finished_trials(live) >= 3, data_dir, "tuning", settings)
    reached = finished_trials(live)
    shutil.rmtree(data_dir)
    result = kedro_run(data_dir, "tuning", settings)
    assert result.returncode == 0, result.stderr
    assert "Restored from" in result.stdout
    redone = sum(line.startswith("trial ") for line in result.stdout.splitlines())
    assert redone <= 5 - reached + 1
    assert finished_trials(live) >= reached
