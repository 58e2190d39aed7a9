"""The list of checks is complete, and a check that fails is reported without a false alarm."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.core.checks.models import write_export
from transformer_foundry.core import checks
from transformer_foundry.core.checks import run_checks, runner
from transformer_foundry.core.checks.probing.finding import Finding
from transformer_foundry.core.checks.runner import CHECKS, Check


def test_every_public_check_function_is_in_the_list() -> None:
    root = Path(checks.__file__).parent
    defined = {
        node.name
        for path in root.glob("*/*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    }
    assert {check.function.__name__ for check in CHECKS} == defined


def test_names_of_checks_are_distinct() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_a_check_that_raises_an_exception_is_an_info_and_keeps_its_findings(tmp_path, monkeypatch) -> None:
    def broken(_subject: object) -> Iterator[Finding]:
        yield Finding("broken", "info", "found before")
        raise ZeroDivisionError("no reason")

    monkeypatch.setattr(runner, "CHECKS", (Check("broken", 1, broken),))
    report = run_checks(write_export(tmp_path / "export", "gpt"))
    assert report.status == "pass"
    assert [finding.message for finding in report.findings] == [
        "found before",
        "The check 'broken' could not be carried out on this model (ZeroDivisionError: no reason).",
    ]


def test_checks_of_the_second_tier_run_only_when_asked(tmp_path, monkeypatch) -> None:
    def thorough(_subject: object) -> Iterator[Finding]:
        yield Finding("thorough", "warning", "found")

    monkeypatch.setattr(runner, "CHECKS", (Check("thorough", 2, thorough),))
    export = write_export(tmp_path / "export", "gpt")
    assert [run_checks(export, tier=tier).status for tier in (1, 2)] == ["pass", "fail"]
