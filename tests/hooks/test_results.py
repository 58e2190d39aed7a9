"""What a pipeline saves as JSON is recognized by its keys, as one kind of result."""

from __future__ import annotations

from typing import Any

import pytest

from transformer_foundry.hooks import results

KINDS = [
    results.ValidationReport,
    results.DataProfile,
    results.Evaluation,
    results.Samples,
    results.ErrorAnalysis,
    results.SearchComparison,
    results.ModelComparison,
    results.HubPublication,
]


def kinds_of(value: object) -> list[type]:
    return [kind for kind in KINDS if results.is_result(value, kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_kinds_have_the_same_keys(kind: Any) -> None:
    assert kinds_of(dict.fromkeys(kind.__annotations__)) == [kind]


@pytest.mark.parametrize("value", [{}, {"step": 1}, [1], None, "step"])
def test_anything_else_is_no_result(value: object) -> None:
    assert kinds_of(value) == []
