"""What a pipeline saves as JSON is recognized by its keys, as one kind of result."""

from __future__ import annotations

from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from transformer_foundry.hooks import results

KINDS = [
    results.BestParameters,
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


VALUES = {str: "text", int: 1, float: 0.5, bool: True, dict: {}, list: []}


def example(kind: Any) -> dict[str, Any]:
    """Return a value of ``kind``."""
    hints = get_type_hints(kind)
    types = {
        name: next(iter(get_args(hint)), hint) if get_origin(hint) is UnionType else hint
        for name, hint in hints.items()
    }
    return {name: VALUES[get_origin(hint) or hint] for name, hint in types.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_kinds_have_the_same_keys(kind: Any) -> None:
    assert kinds_of(example(kind)) == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_keys_with_values_of_other_types_are_no_result(kind: Any) -> None:
    assert kinds_of(dict.fromkeys(kind.__annotations__, object())) == []


@pytest.mark.parametrize("value", [{}, {"step": 1}, [1], None, "step"])
def test_anything_else_is_no_result(value: object) -> None:
    assert kinds_of(value) == []
