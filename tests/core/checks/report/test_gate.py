"""Training refuses a model with errors, and a report of another model."""

from __future__ import annotations

from typing import Any

import pytest

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.checks.report.gate import approve_report, require_sound
from transformer_foundry.core.files.provenance import with_origin


def report(*severities: str) -> dict[str, Any]:
    findings = [
        {
            "check": "causality",
            "severity": severity,
            "message": "sees the future",
            "where": "model.py:3",
            "fix": "Mask.",
        }
        for severity in severities
    ]
    return {"findings": findings, "model": {"name": "gpt", "identity": "abc"}}


def test_a_model_without_errors_may_be_trained() -> None:
    require_sound(report("warning", "info"), "abc")
    with pytest.raises(TrainingError, match=r"sees the future \(and 1 more\)") as caught:
        require_sound(report("error", "error"), "abc")
    assert "model.py:3" in str(caught.value)


def test_errors_are_accepted_when_the_user_chooses_warn() -> None:
    require_sound(report("error"), "abc", "warn")
    with pytest.raises(TrainingError, match="another model"):
        require_sound(report("error"), "other", "warn")


def test_the_verdict_on_a_report_is_judged_as_the_report_is() -> None:
    finding = {"severity": "error", "message": "it sees the future", "where": "model.py", "fix": "mask it"}
    report = {"status": "fail", "model": {"identity": "abc"}, "findings": [finding, {**finding, "severity": "info"}]}
    verdict = approve_report(report)
    assert verdict["findings"] == [finding]
    require_sound(verdict, "abc", "warn")
    with pytest.raises(TrainingError, match="sees the future"):
        require_sound(verdict, "abc", "refuse")
    with pytest.raises(TrainingError, match="another model"):
        require_sound(verdict, "def", "warn")


def test_a_model_that_was_never_judged_is_refused() -> None:
    with pytest.raises(TrainingError, match="has not been checked"):
        require_sound(None, "abc")


@pytest.mark.parametrize("change", [{"findings": []}, {"model": {"identity": "abc", "name": "other"}}])
def test_a_report_or_verdict_that_has_changed_since_it_was_written_is_refused(change: dict[str, Any]) -> None:
    kept = with_origin(report("error"), {"model": "abc"})
    for found in (kept, approve_report(kept)):
        require_sound(found, "abc", "warn")
        with pytest.raises(TrainingError, match="has changed since it was written"):
            require_sound(found | change, "abc", "warn")
