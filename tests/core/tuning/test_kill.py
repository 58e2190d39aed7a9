"""A search that is killed goes on: nothing lost, doubled or left running."""

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from transformer_foundry.core.tuning.storage import load_study, open_storage

ROOT = Path(__file__).parents[3]
N_TRIALS = 8


def run_search(path, lines_until_kill=None):
    """Run the search, killed after that many lines of output; return the exit code and the lines."""
    command = [sys.executable, "-m", "tests.core.tuning.killable_search", str(path), str(N_TRIALS)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line.split())
        if len(lines) == lines_until_kill:
            process.send_signal(signal.SIGKILL)
    return process.wait(), lines


@pytest.mark.slow
def test_a_search_killed_in_mid_trial_goes_on_where_it_was(tmp_path):
    path = tmp_path / "study.db"
    code, lines = run_search(path, lines_until_kill=11 + 11 + 5)
    assert (code, ["trial", "1", "complete"] in lines) == (-signal.SIGKILL, True)
    interrupted = load_study(open_storage(path)).get_trials()[2].params
    code, _ = run_search(path)
    trials = load_study(open_storage(path)).get_trials()
    states = [trial.state.name for trial in trials]
    assert (code, Counter(states)) == (0, {"COMPLETE": N_TRIALS, "FAIL": 1})
    assert states[:3] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.state.name for trial in trials if trial.params == interrupted] == ["FAIL", "COMPLETE"]


@pytest.mark.slow
def test_five_kills_at_any_moment_lose_no_finished_trial_and_leave_none_running(tmp_path):
    path = tmp_path / "study.db"
    rng = random.Random(0)
    finished = {}
    for _ in range(5):
        run_search(path, lines_until_kill=rng.randint(1, 22))
        complete = [trial for trial in load_study(open_storage(path)).get_trials() if trial.state.name == "COMPLETE"]
        now = {trial.number: (trial.params, trial.value) for trial in complete}
        assert finished.items() <= now.items()
        finished = now
    run_search(path)
    trials = load_study(open_storage(path)).get_trials()
    complete = [str(trial.params) for trial in trials if trial.state.name == "COMPLETE"]
    assert len(complete) == len(set(complete)) == N_TRIALS
    assert {trial.state.name for trial in trials} == {"COMPLETE", "FAIL"}
