"""Random evaluation, losses that do not teach, and parts that never learn are found; their repaired twins are sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.checks.behavior_faults import CASES
from tests.core.checks.zoo import write_model
from transformer_foundry.core.checks import run_checks

QUICK = ("stochastic depth in evaluation",)


def cases() -> list[object]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("name", cases())
def test_a_fault_of_behavior_is_found_at_its_place(name: str, tmp_path: Path) -> None:
    model, fault, _, settings, check, where = CASES[name]
    found = run_checks(write_model(tmp_path / "export", model, fault, **settings)).problems
    assert [finding.check for finding in found[:1]] == [check], found
    assert where in found[0].where, found
    assert all(finding.message and finding.fix for finding in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_the_repaired_twin_raises_no_alarm(name: str, tmp_path: Path) -> None:
    model, _, twin, settings, *_ = CASES[name]
    report = run_checks(write_model(tmp_path / "export", model, twin, **settings))
    assert [(finding.check, finding.message, finding.where) for finding in report.problems] == []
