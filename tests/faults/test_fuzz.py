"""A short, repeatable round of the fuzzers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.fuzz import fuzz, readers
from transformer_foundry.core.base.errors import FoundryError


@pytest.mark.parametrize(
    ("reader", "examples"),
    [
        ("code", 40),
        ("config", 60),
        ("gist", 150),
        ("zip", 100),
        ("manifest", 150),
        ("data", 40),
        ("parameters", 120),
        ("checkpoint", 60),
        ("weights", 60),
        ("http", 150),
    ],
)
def test_a_reader_raises_nothing_but_foundry_errors(reader: str, examples: int) -> None:
    assert fuzz(reader, examples) >= examples // 2


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        ("manifest", DEEP),
        ("checkpoint", ("manifest.json", DEEP, False)),
        ("weights", ("manifest.json", DEEP)),
        ("data", ("json", DEEP)),
        ("data", ("jsonl", b'{"text": ' + b"9" * 5000 + b"}\n" + b'{"text": ' + DEEP)),
        ("data", ("json", b"[" + b"9" * 5000 + b"]")),
    ],
)
def test_what_the_fuzzers_found_stays_refused(tmp_path: Path, reader: str, content: Any) -> None:
    with pytest.raises(FoundryError):
        readers()[reader][0](tmp_path, content)
