"""Undo what a process other than the first does to logging, and forget the pipelines of a project."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from kedro.framework.project import pipelines


@pytest.fixture(autouse=True)
def _no_project() -> Iterator[None]:
    """Kedro keeps the pipelines of the last project of this process."""
    pipelines.configure(None)
    yield
    pipelines.configure(None)


@pytest.fixture(autouse=True)
def _enabled_logging() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)
