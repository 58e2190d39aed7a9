"""The table of bad inputs is large and names each case once; ``python -m tests.faults.bad_input`` runs it."""

from __future__ import annotations

from tests.faults.bad_input_cases import CASES


def test_there_are_enough_cases_and_each_has_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 80
