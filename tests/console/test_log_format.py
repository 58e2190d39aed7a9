"""Warnings and errors in the log are marked; other records are their message."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kedro.framework.project import LOGGING

from transformer_foundry.console.log_format import follow_conf_source, install_log_format
from transformer_foundry.core.base.errors import ParameterError


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.StreamHandler[io.StringIO]]:
    """The only handler of the root logger; all global state is restored afterwards."""
    handler, root, factory = logging.StreamHandler(io.StringIO()), logging.getLogger(), logging.getLogRecordFactory()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield handler
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize(
    ("level", "printed"),
    [(logging.INFO, "text\n"), (logging.WARNING, "warning: text\n"), (logging.ERROR, "error: text\n")],
)
def test_a_warning_and_an_error_are_marked(
    handler: logging.StreamHandler[io.StringIO], level: int, printed: str
) -> None:
    handler.setFormatter(logging.Formatter("%(message)s"))
    install_log_format()
    logging.getLogger().log(level, "text")
    assert handler.stream.getvalue() == printed


def test_a_format_that_the_user_chose_stays(handler: logging.StreamHandler[io.StringIO]) -> None:
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    install_log_format()
    logging.getLogger().warning("text")
    assert handler.stream.getvalue() == "WARNING text\n"


@pytest.mark.parametrize("chosen", ["", "mine.yml"])
def test_logging_follows_the_configuration_that_is_read(
    handler: logging.StreamHandler[io.StringIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setattr(LOGGING, "data", LOGGING.data)
    monkeypatch.setenv("KEDRO_LOGGING_CONFIG", chosen)
    levels = {"version": 1, "incremental": True, "loggers": {"conf_source": {"level": "ERROR"}}}
    (tmp_path / "logging.yml").write_text(yaml.safe_dump(levels))
    logging.getLogger("conf_source").setLevel(logging.INFO)
    follow_conf_source(tmp_path)
    assert logging.getLogger("conf_source").level == (logging.INFO if chosen else logging.ERROR)


def test_an_expected_error_of_any_program_is_printed_in_its_lines(
    handler: logging.StreamHandler[io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    install_log_format()
    sys.excepthook(ParameterError, ParameterError("a is 1.", "Expected 2.", "Set a=2."), None)
    assert capsys.readouterr().err == "error: a is 1.\nExpected 2.\nSet a=2.\n"
