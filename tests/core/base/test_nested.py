"""Nested mappings by dotted names."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.base.nested import differences, flatten

NAMES = st.text("abc", min_size=1, max_size=3)
NESTED = st.recursive(st.integers(), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(NAMES, NESTED, max_size=4)


def lookup(values: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        values = values[name]
    return values


@given(MAPPINGS)
def test_every_flattened_name_leads_to_its_value(values: dict[str, Any]) -> None:
    assert all(lookup(values, name) == value for name, value in flatten(values).items())


@given(MAPPINGS)
def test_a_mapping_does_not_differ_from_itself(values: dict[str, Any]) -> None:
    assert differences(values, values) == {}


@given(MAPPINGS, MAPPINGS)
def test_the_order_of_two_mappings_only_exchanges_their_values(first: dict[str, Any], second: dict[str, Any]) -> None:
    exchanged = {name: (theirs, ours) for name, (ours, theirs) in differences(second, first).items()}
    assert differences(first, second) == exchanged


def test_an_absent_value_differs_as_none() -> None:
    assert differences({"a": {"b": 1}}, {"a": {}}) == {"a.b": (1, None)}
