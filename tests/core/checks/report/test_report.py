from __future__ import annotations

import json

import pytest

from transformer_foundry.core.checks import Finding, Report
from transformer_foundry.core.checks.report.root_causes import CONSEQUENCES, keep_root_causes


def finding(check, severity="error"):
    return Finding(check, severity, "what", "model.py:1", "how")


def test_the_dictionary_has_exactly_the_agreed_keys():
    report = Report("decoder-only", (finding("causality"),), 1.234)
    assert json.loads(json.dumps(report.to_dict())) == {
        "status": "fail",
        "kind": "decoder-only",
        "findings": [
            {"check": "causality", "severity": "error", "message": "what", "where": "model.py:1", "fix": "how"}
        ],
        "seconds": 1.23,
    }


@pytest.mark.parametrize(("severity", "status"), [("error", "fail"), ("warning", "fail"), ("info", "pass")])
def test_only_errors_and_warnings_count_as_problems(severity, status):
    assert Report(None, (finding("any", severity),), 0.0).status == status


def test_the_text_says_what_where_and_how_to_fix_it():
    text = Report("decoder-only", (finding("causality"),), 0.0).to_text()
    assert all(word in text for word in ("FAIL: 1 error", "what  what", "where model.py:1", "fix   how"))


def test_a_cause_drops_its_consequences_and_comes_first():
    kept = keep_root_causes([finding("gradients", "warning"), finding("source"), finding("tied weights", "warning")])
    assert [item.check for item in kept] == ["source", "tied weights"]


def test_a_finding_without_its_cause_stays():
    assert keep_root_causes([finding("gradients", "warning")]) == [finding("gradients", "warning")]


def test_no_two_findings_are_consequences_of_each_other():
    for cause, consequences in CONSEQUENCES.items():
        for consequence in consequences:
            assert cause not in CONSEQUENCES.get(consequence, frozenset()), (cause, consequence)
