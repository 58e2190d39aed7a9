"""A killed search continues, and several share one study: no trial is lost, doubled or left running."""

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.core.studies.tuning.postgresql import running_server, server_command
from transformer_foundry.core.studies.tuning.storage import load_study, open_storage
from transformer_foundry.core.studies.tuning.storage.trial_attributes import is_paused

ROOT = Path(__file__).parents[4]
N_TRIALS = 6


def start(where, sampler, folder):
    command = [
        sys.executable,
        "-m",
        "tests.core.studies.tuning.killable_search",
        str(where),
        str(N_TRIALS),
        sampler,
        str(folder),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run_search(path, sampler="pause_resume", lines_until_kill=None):
    """Run the search, killed after that many lines of output; return the exit code and the lines."""
    process = start(path, sampler, path.parent / "paused")
    lines = []
    for line in process.stdout:
        lines.append(line.split())
        if len(lines) == lines_until_kill:
            process.send_signal(signal.SIGKILL)
    return process.wait(), lines


def trials_of(where):
    return load_study(open_storage(where)).get_trials()


def harm_to(trials):
    """What is wrong with the trials of a whole search: each is complete with its whole curve or paused half way."""
    steps = {trial.number: sorted(trial.intermediate_values) for trial in trials}
    for trial in trials:
        if trial.state.name != "COMPLETE" and not is_paused(trial):
            yield f"{trial} is neither complete nor paused"
        if steps[trial.number] != list(range(10, 101 if trial.value else 51, 10)):
            yield f"{trial} has the steps {steps[trial.number]}"
    for configuration, count in Counter(str(trial.params) for trial in trials).items():
        if count > 1:
            yield f"{configuration} is there {count} times"
    if sum(max(curve) for curve in steps.values()) != N_TRIALS * 100:
        yield f"the steps are not those of {N_TRIALS} trainings: {steps}"


@pytest.mark.slow
def test_a_search_killed_after_a_pause_continues_from_the_pause(tmp_path):
    path = tmp_path / "study.db"
    _, lines = run_search(path)
    resumed = next(index for index, line in enumerate(lines) if line == ["begin", "50"])
    other = tmp_path / "other" / "study.db"
    other.parent.mkdir()
    run_search(other, lines_until_kill=resumed + 3)
    _, lines = run_search(other)
    assert lines[0] == ["begin", "50"]
    assert list(harm_to(trials_of(other))) == []
    assert [trial.params for trial in trials_of(other)] == [trial.params for trial in trials_of(path)]


@pytest.mark.slow
def test_ten_kills_at_any_moment_lose_no_finished_trial_and_change_no_result(tmp_path):
    path, rng, finished = tmp_path / "study.db", random.Random(0), {}
    for _ in range(10):
        run_search(path, lines_until_kill=rng.randint(1, 16))
        now = {t.number: (t.params, t.value) for t in trials_of(path) if t.state.name == "COMPLETE"}
        assert finished.items() <= now.items()
        finished = now
    run_search(path)
    assert list(harm_to(trials_of(path))) == []


@pytest.mark.slow
def test_a_killed_search_with_a_sampler_of_optuna_continues(tmp_path):
    path = tmp_path / "study.db"
    run_search(path, "tpe", lines_until_kill=12 + 5)
    run_search(path, "tpe")
    assert [trial.state.name for trial in trials_of(path)] == ["COMPLETE"] * N_TRIALS


def share(where, tmp_path):
    """Three workers on one study, the first of them killed: exit codes, and the trials they reported."""
    workers = [start(where, "pause_resume", tmp_path / "paused") for _ in range(3)]
    for _ in range(5):
        workers[0].stdout.readline()
    workers[0].kill()
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    reported = [line.split()[1] for output in outputs for line in output.splitlines() if line.startswith("trial")]
    return [worker.returncode for worker in workers], reported


def kept_of(where):
    """The trials of a study but for the traces of lost races."""
    return [trial for trial in trials_of(where) if trial.state.name != "FAIL"]


@pytest.mark.slow
def test_several_processes_share_a_study_in_a_file(tmp_path):
    path = tmp_path / "study.db"
    codes, reported = share(path, tmp_path)
    assert codes == [-signal.SIGKILL, 0, 0]
    assert list(harm_to(kept_of(path))) == []
    assert len(reported) == len(set(reported))


@pytest.mark.slow
@pytest.mark.skipif(server_command("initdb") is None, reason="PostgreSQL is not installed")
def test_several_processes_share_a_study_in_postgresql(tmp_path):
    pytest.importorskip("psycopg2")
    with running_server(tmp_path) as url:
        codes, reported = share(url, tmp_path)
        assert codes == [-signal.SIGKILL, 0, 0]
        assert list(harm_to(kept_of(url))) == []
        assert len(reported) == len(set(reported))


@pytest.mark.slow
def test_a_trial_that_was_killed_is_trained_at_once_by_the_next_worker(tmp_path):
    path = tmp_path / "study.db"
    run_search(path, lines_until_kill=12 + 3)
    killed = trials_of(path)[1]
    assert killed.state.name == "RUNNING"
    run_search(path, lines_until_kill=1)
    again = trials_of(path)[1]
    assert (again.params, again.user_attrs["attempts"]) == (killed.params, 2)
