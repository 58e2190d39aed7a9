"""Undo what a process other than the first does to logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _enabled_logging() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)
