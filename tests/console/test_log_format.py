"""Warnings and errors in the log are marked; other records are their message."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from transformer_foundry.console.log_format import install_log_format


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
