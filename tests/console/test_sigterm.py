"""SIGTERM is a Stop with little time, SIGHUP one without a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from transformer_foundry.console.sigterm import (
    GRACE_S,
    is_hung_up,
    is_terminated,
    shutdown_timeout_s,
    stop_at_termination,
)


def test_sigterm_is_a_stop_that_leaves_little_time():
    with pytest.raises(KeyboardInterrupt), stop_at_termination():
        signal.raise_signal(signal.SIGTERM)
    assert is_terminated()
    assert shutdown_timeout_s(600.0) == GRACE_S


def test_without_it_there_is_all_the_time():
    with stop_at_termination():
        assert not is_terminated()
        assert shutdown_timeout_s(600.0) == 600.0


def test_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_at_termination():
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_sighup_is_a_stop_with_all_the_time():
    with pytest.raises(KeyboardInterrupt), stop_at_termination():
        signal.raise_signal(signal.SIGHUP)
    assert is_hung_up()
    assert shutdown_timeout_s(600.0) == 600.0


def test_a_command_under_nohup_does_not_stop_at_sighup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_at_termination():
            signal.raise_signal(signal.SIGHUP)
        assert not is_hung_up()
    finally:
        signal.signal(signal.SIGHUP, before)


PROGRAM = """
import logging, pathlib, sys, time
from transformer_foundry.cli.readable import readable_errors
from transformer_foundry.console.status_line import LINE, keep_log_apart

@readable_errors
def work():
    logging.basicConfig(stream=sys.stdout)
    keep_log_apart()
    try:
        LINE.replace("step 1")
        pathlib.Path(sys.argv[1], "started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        for _ in range(3):
            LINE.replace("step 2")
            logging.getLogger("x").warning("saving")
        pathlib.Path(sys.argv[1], "saved").touch()
        raise

work()
"""


def test_a_terminal_that_is_closed_stops_the_program_after_it_has_saved(tmp_path):
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(inside)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.close(terminal)
    assert process.wait(30) == 129
    assert (tmp_path / "saved").exists()
