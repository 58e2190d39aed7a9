"""What is declared counts: heads, groups, slopes, experts, layers, tables, drawn blocks, settings, the cached path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.checks.declared_parts import CASES
from tests.core.checks.zoo import write_model
from transformer_foundry.core.checks import run_checks, runner
from transformer_foundry.core.checks.report.report import Report

OWN = (
    "sizes", "differentiable", "origins of attention", "source and target", "slopes", "lookup tables", "experts",
    "gradients", "weight slices", "shared modules", "cached path", "effects of the configuration", "drawn order",
    "long causality",
)  # fmt: skip
QUICK = (
    "values tiled, keys repeated", "sign of one slope", "last expert never", "blocks replicated",
    "feed-forward before attention", "window kept but not used",
)  # fmt: skip
TWINS = {(case[0], *sorted(case[1])): name for name, case in CASES.items() if case[1]}


@pytest.fixture(autouse=True)
def _only_these_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CHECKS", tuple(check for check in runner.CHECKS if check.name in OWN))


def judged(folder: Path, name: str, *, broken: bool) -> Report:
    model, twin, settings, fault, _ = CASES[name]
    write_model(folder, model, twin, **settings)
    code = (folder / "model.py").read_text()
    for old, new in fault.items() if broken else ():
        assert old in code, old
        code = code.replace(old, new)
    (folder / "model.py").write_text(code)
    return run_checks(folder)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_a_part_that_does_not_count_is_found_at_its_place(name: str, tmp_path: Path) -> None:
    found = judged(tmp_path / "export", name, broken=True).problems
    assert found, "nothing was found"
    assert CASES[name][-1] in found[0].where, found
    assert all(finding.message and finding.fix for finding in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS.values())
def test_the_repaired_twin_raises_no_alarm(name: str, tmp_path: Path) -> None:
    report = judged(tmp_path / "export", name, broken=False)
    assert [(finding.check, finding.message, finding.where) for finding in report.problems] == []
