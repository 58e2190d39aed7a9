"""What the validation notebook shows of a model."""

from __future__ import annotations

import pytest

from tests.integration.foundry import SAMPLES
from transformer_foundry.core.checks.report.report import Finding, Report
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.notebook import memory_sentence, structure_table, verdict_html


def test_the_verdict_shows_each_finding_with_place_and_fix() -> None:
    found = (
        Finding("causality", "error", "It sees ahead.", "model.py line 3", "mask it"),
        Finding("cost", "info", "m"),
    )
    page = verdict_html(Report("decoder-only", found, 1.0))
    assert page.count("<p ") == 3
    assert "<b>FAIL</b>: decoder-only, must be fixed" in page
    assert "<b>causality</b> (must be fixed): It sees ahead.<br>Where: model.py line 3<br>Fix: mask it</p>" in page
    assert "<b>cost</b> (note): m</p>" in page


def test_a_report_without_findings_is_one_line() -> None:
    page = verdict_html(Report(None, (), 1.0))
    assert page.count("<p ") == 1
    assert "<b>PASS</b>: kind unknown, sound</p>" in page


@pytest.mark.parametrize("field", ["check", "message", "where", "fix"])
def test_no_text_of_a_finding_becomes_markup(field: str) -> None:
    values = {"check": "c", "severity": "error", "message": "m", "where": "w", "fix": "f"}
    page = verdict_html(Report("<k>", (Finding(**(values | {field: "<script>alert('x')</script>"})),), 1.0))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;k&gt;" in page


def test_the_structure_lists_the_called_modules_with_their_output_shapes() -> None:
    adapter = load_model(read_export(SAMPLES / "gpt"))
    table = structure_table(adapter)
    assert list(table.columns) == ["module", "class", "parameters", "output"]
    assert len(table) > 3
    assert table["output"].str.startswith("(1, 16").any()


def test_the_memory_for_training_is_compared_with_that_of_colab() -> None:
    sentence = memory_sentence(load_model(read_export(SAMPLES / "gpt")))
    assert "of the 12 GB of a free Colab session. It fits." in sentence
