"""The table of bad inputs through the real commands; ``python -m tests.faults.bad_input`` prints it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.bad_input_cases import CASES


def test_there_are_enough_cases_and_each_has_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 80


KINDS = (
    "gist: config: model: source: zip:",
    "parameters: data: checkpoint: tokenizer: report: deployment:",
    "Hub: W&B: disk:",
)
"""Parts of the table, by the words that the names of their cases hold."""


def test_every_case_belongs_to_a_part() -> None:
    assert all(any(word in case.name for words in KINDS for word in words.split()) for case in CASES)


@pytest.mark.slow
@pytest.mark.parametrize("words", KINDS)
def test_every_bad_input_ends_with_a_few_clear_lines(words: str) -> None:
    command = [sys.executable, "-m", "tests.faults.bad_input", *words.split()]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert not failed
    assert done.returncode == 0, done.stdout + done.stderr
