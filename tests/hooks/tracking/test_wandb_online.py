"""Online runs of the real W&B client against a backend on this machine that is killed from, refuses and comes back."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hooks.runs import Run
from tests.loopback.mini_wandb import MiniWandb
from tests.loopback.wandb_offline_reader import read_runs
from transformer_foundry.hooks.tracking.wandb_offline_log import folders_to_sync

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture
def server():
    with MiniWandb() as server:
        yield server


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "data")


def start(run, server, *arguments, **others):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    command = [sys.executable, "-m", "tests.hooks.tracking.tracked_process", str(run.data_dir), *map(str, arguments)]
    environment = inherited | server.environment() | others
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


def track(run, server, *arguments, **others):
    process = start(run, server, *arguments, **others)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def arrived(server):
    (history,) = [server.history(run) for run in server.runs] or [[]]
    return [row["train/step"] for row in history if "train/loss" in row]


def recorded_offline(run):
    sessions = read_runs(run.data_dir / "08_reporting" / run.name)
    return [row["train/step"] for session in sessions for row in session.history if "train/loss" in row]


def test_the_rows_of_a_run_arrive_once_each_over_two_sessions(run, server):
    assert track(run, server, 0, 20, "end")[0] == 0
    assert track(run, server, 20, 40, "end")[0] == 0
    assert arrived(server) == [10, 20, 30, 40]


def test_a_run_that_was_killed_is_resumed_without_gap_or_double(run, server):
    assert track(run, server, 0, 20, "kill")[0] == -signal.SIGKILL
    assert track(run, server, 20, 40, "kill")[0] == -signal.SIGKILL
    assert track(run, server, 40, 60, "end")[0] == 0
    assert sorted(arrived(server)) == [10, 20, 30, 40, 50, 60]


def test_the_folders_of_a_killed_and_a_later_session_are_uploaded_into_one_run_in_order(run, server):
    assert track(run, server, 0, 20, "kill", WANDB_MODE="offline")[0] == -signal.SIGKILL
    assert track(run, server, 20, 40, "kill", WANDB_MODE="offline")[0] == -signal.SIGKILL
    assert track(run, server, 40, 60, "end", WANDB_MODE="offline")[0] == 0
    last = sorted((run.data_dir / "08_reporting").rglob("offline-run-*/run-*.wandb"))[-1]
    # A kill may leave the header alone, and wandb's program uploads nothing at all if it is given such a folder.
    killed = last.parent.with_name("offline-run-20260101_000000-" + last.stem.removeprefix("run-"))
    killed.mkdir()
    (killed / last.name).write_bytes(last.read_bytes()[:7])
    folders = folders_to_sync(run.data_dir / "08_reporting" / run.name, last.stem.removeprefix("run-"))
    assert last.parent in folders
    assert killed not in folders
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    for _ in range(2):  # what is uploaded is left out
        command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
        subprocess.run(command, env=environment | server.environment(), check=True, capture_output=True, timeout=120)
        assert arrived(server) == [10, 20, 30, 40, 50, 60]
    (name,) = server.runs
    steps = [row["_step"] for row in server.history(name)]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_refuses_means_offline_until_it_takes_runs_again(run, server, status):
    server.refuse_with(status)
    code, errors = track(run, server, 0, 20, "end")
    assert code == 0
    assert errors.count("W&B cannot be reached") == 1
    assert "Traceback" not in errors
    server.refuse_with(None)
    assert track(run, server, 20, 40, "end")[0] == 0
    assert sorted(recorded_offline(run) + arrived(server)) == [10, 20, 30, 40]


def test_rows_of_an_outage_arrive_when_the_server_comes_back(run, server):
    process = start(run, server, 0, 40, "wait")
    assert process.stdout.readline() == "waiting\n"
    server.refuse_with(500)
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "waiting\n"
    server.refuse_with(None)
    process.communicate("\n", timeout=120)
    assert process.returncode == 0
    assert arrived(server) == [10, 20, 30, 40]
