"""A forked command has its own arguments, folder, environment, output and end."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration import command_server

SHOW = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ["MINE"], "HOME" in os.environ, "torch" in sys.modules]))
print("wrong", file=sys.stderr)
sys.exit(3)
"""


def test_a_command_is_what_a_new_process_would_be(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "HOME"} | {"MINE": "here"}
    ended = command_server.run([sys.executable, "-c", SHOW, "a b", ""], tmp_path, kept)
    shown = [["a b", ""], str(tmp_path), "here", False, True]
    assert (ended.returncode, json.loads(ended.stdout), ended.stderr) == (3, shown, "wrong\n")
    ended = command_server.run([sys.executable, "-m", "kedro", "nosuch"], tmp_path)
    assert ended.returncode == 2
    assert "python -m kedro" in ended.stderr
    # Libraries read these when they are imported: the process is a new one.
    ended = command_server.run([sys.executable, "-c", SHOW], tmp_path, kept | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (ended.returncode, json.loads(ended.stdout)[-1]) == (3, False)


def test_a_signal_ends_a_command_and_is_its_exit_code(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        command = [sys.executable, "-c", "import time; print('started'); time.sleep(600)"]
        started = command_server.start(command, tmp_path, out, out)
        assert started.poll() is None
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == -signal.SIGTERM
        assert started.poll() == -signal.SIGTERM


def test_a_server_that_has_ended_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours, theirs = command_server.socket.socketpair()
    theirs.close()
    monkeypatch.setattr(command_server, "_server", lambda is_ours: ours)
    with pytest.raises(OSError, match=r"[Pp]ipe|ended"):
        command_server.run([sys.executable, "-c", ""], tmp_path)
