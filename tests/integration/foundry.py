"""Runs the project's real command, as a user would, with everything that it writes in a folder of the test's.

The commands are forks of a process that has imported the libraries; see ``command_server``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.integration import command_server

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT / "data" / "01_raw" / "exports"

QUICK = {
    "data.max_documents": 400,
    "training.max_steps": 12,
    "training.per_device_train_batch_size": 4,
    "training.eval_steps": 6,
    "training.save_steps": 4,
    "training.logging_steps": 1,
    "tracking.mode": "disabled",
}
"""Settings with which all pipelines take seconds."""


def arguments(data_dir: Path, pipelines: str = "", settings: Mapping[str, object] | None = None) -> list[str]:
    """Return the command line of ``kedro run`` with ``settings`` beside the quick ones.

    Args:
        data_dir: Where everything is written.
        pipelines: Names separated by commas, or other options of the command.
        settings: More parameters.
    """
    merged = {"data_dir": data_dir} | QUICK | dict(settings or {})
    parameters = ",".join(f"{name}={value}" for name, value in merged.items())
    chosen = pipelines.split() if pipelines.startswith("-") else ["--pipelines", pipelines] if pipelines else []
    return [sys.executable, "-m", "kedro", "run", *chosen, "--params", parameters]


def environment() -> dict[str, str]:
    """Return the environment of a user on a machine without keys and network."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def kedro_run(
    data_dir: Path, pipelines: str = "", settings: Mapping[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it printed."""
    return command_server.run(arguments(data_dir, pipelines, settings), PROJECT, environment())


def kill_when(
    condition: Callable[[], bool],
    data_dir: Path,
    pipelines: str,
    settings: Mapping[str, object] | None = None,
    number: int = signal.SIGKILL,
) -> int:
    """Start the command, send the signal as soon as ``condition`` holds, and return the exit code.

    A command that has not ended ten seconds after the signal is killed.
    """
    log = data_dir / "killed.log"
    data_dir.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = command_server.start(arguments(data_dir, pipelines, settings), PROJECT, output, output, environment())
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if condition():
            process.send_signal(number)
            break
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(10)
    process.kill()
    return process.wait()
