"""The line that progress rewrites, and what is printed around it."""

import io
import logging

import pytest

from transformer_foundry.console import status_line
from transformer_foundry.console.status_line import StatusLine, keep_log_apart


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen(written):
    """What a terminal shows of what was written: each line after its last carriage returns."""
    shown = []
    for line in written.split("\n"):
        cells = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        shown.append("".join(cells).rstrip())
    return shown


@pytest.fixture
def terminal():
    return Terminal()


def test_a_printed_line_takes_the_place_of_the_open_one(terminal):
    line = StatusLine(terminal)
    line.replace("step 1 of many, many")
    line.print("done")
    line.replace("step 2")
    line.clear()
    assert screen(terminal.getvalue()) == ["done", ""]


def test_an_ended_line_stays(terminal):
    line = StatusLine(terminal)
    line.replace("step 1")
    line.end()
    line.print("stopped")
    assert screen(terminal.getvalue()) == ["step 1", "stopped", ""]


def test_a_line_is_cut_before_it_wraps(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    StatusLine(terminal).replace("x" * 50)
    assert terminal.getvalue() == "\r" + "x" * 19


def test_nothing_is_rewritten_in_a_file():
    stream = io.StringIO()
    line = StatusLine(stream)
    line.replace("step 1")
    line.clear()
    line.end()
    assert stream.getvalue() == "step 1\n"


def test_a_log_record_is_not_written_onto_the_open_line(terminal, monkeypatch):
    line = StatusLine(terminal)
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(status_line, "LINE", line)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    keep_log_apart()
    keep_log_apart()
    line.replace("step 1 of many, many")
    logging.getLogger().warning("a step was skipped")
    assert len(handler.filters) == 1
    assert screen(terminal.getvalue()) == ["a step was skipped", ""]
