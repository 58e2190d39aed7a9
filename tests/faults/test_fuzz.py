"""A short, repeatable round of the fuzzers."""

from __future__ import annotations

import pytest

from tests.faults.fuzz import fuzz


@pytest.mark.parametrize(
    ("reader", "examples"),
    [("config", 60), ("gist", 150), ("zip", 100), ("manifest", 150), ("data", 40), ("checkpoint", 60), ("weights", 60)],
)
def test_a_reader_raises_nothing_but_foundry_errors(reader: str, examples: int) -> None:
    assert fuzz(reader, examples) >= examples // 2
