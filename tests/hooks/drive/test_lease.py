import json
import logging
import os
import platform
import subprocess
import sys

import pytest

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.hooks.drive.lease import DEAD_AFTER_S, HEARTBEAT_S, Lease


class Clock:
    """Seconds that pass when a test sets them, or in a sleep."""

    def __init__(self):
        self.now = 1e9
        self.meanwhile = lambda: None

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    return lambda: Lease(tmp_path, clock=clock, sleep=clock.sleep)


@pytest.fixture
def other(make, tmp_path):
    """A session on another machine that holds the lease."""
    lease = make()
    lease.acquire()
    move(tmp_path, host="colab")
    return lease


def move(folder, **changes):
    path = folder / "lease.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_free_run_is_taken(make):
    assert make().acquire() is None


def test_a_released_run_is_taken_without_a_message(make, other):
    other.release()
    assert make().acquire() is None


def test_a_holder_that_is_alive_is_named(make, other, clock, tmp_path):
    clock.meanwhile = lambda: (setattr(other, "_renewed_at", 0.0), other.renew(), move(tmp_path, host="colab"))
    with pytest.raises(CheckpointError, match=rf"process {os.getpid()} on colab, since") as caught:
        make().acquire()
    assert "run.name=NEW" in caught.value.remedy


def test_a_holder_without_a_heartbeat_is_waited_for_and_taken_over_from(make, other, clock, caplog):
    caplog.set_level(logging.INFO)
    began = clock.now
    assert "Took the run over from process" in make().acquire()
    assert clock.now - began <= DEAD_AFTER_S
    assert "waiting up to" in caplog.text


def test_a_holder_without_a_heartbeat_for_long_is_not_waited_for(make, other, clock):
    clock.now += DEAD_AFTER_S + 1
    began = clock.now
    make().acquire()
    assert clock.now == began


def test_a_clock_that_is_ahead_causes_no_longer_wait(make, other, clock, tmp_path):
    move(tmp_path, at=clock.now + 3600)
    began = clock.now
    assert "which has stopped" in make().acquire()
    assert clock.now - began <= DEAD_AFTER_S + 5


def test_a_dead_process_of_this_machine_is_not_waited_for(make, other, clock, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    move(tmp_path, host=platform.node(), pid=process.pid)
    began = clock.now
    make().acquire()
    assert clock.now == began


def test_a_session_that_lost_its_lease_stops_copying(make, other, clock, caplog):
    make().acquire()
    clock.now += HEARTBEAT_S
    assert not other.renew()
    assert not other.renew()
    assert caplog.text.count("nothing more is copied") == 1


def test_a_heartbeat_is_written_only_when_it_is_due(make, clock, tmp_path):
    lease = make()
    lease.acquire()
    before = (tmp_path / "lease.json").read_text()
    assert lease.renew()
    assert (tmp_path / "lease.json").read_text() == before
    clock.now += HEARTBEAT_S
    assert lease.renew()
    assert (tmp_path / "lease.json").read_text() != before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": 1}'])
def test_a_lease_that_cannot_be_read_is_none(make, tmp_path, text):
    (tmp_path / "lease.json").write_text(text)
    assert make().acquire() is None


ODD = {"at": ["x", None, 10**400, float("nan"), True], "pid": ["1", -1, 10**30, 1.5], "host": [1, ["h"]],
       "since": [None, {}], "token": [[], 5]}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in ODD for value in ODD[name]], ids=str)
def test_a_lease_that_no_session_has_written_is_no_lease(make, other, tmp_path, name, value):
    move(tmp_path, **{name: value})
    assert make().acquire() is None


def test_the_name_of_a_holder_is_on_one_line(make, other, tmp_path):
    move(tmp_path, host="h\n\x1b[31m", at=0)
    taken_over = make().acquire()
    assert taken_over is not None
    assert taken_over.isprintable()
