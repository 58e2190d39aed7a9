"""Options: types, ranges and unknown names."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.base.errors import FoundryError, ParameterError, find_foundry_error, suggestion
from transformer_foundry.core.base.options import Options, check_options, option, parse_options


@dataclass(frozen=True)
class Sizes(Options):
    rate: float = option(0.5, "A rate.", above=0, maximum=1)
    count: int = option(3, "A count.", minimum=1)
    name: str | None = option(None, "A name.")
    kind: str = option("small", "A kind.", choices=("small", "large"))
    parts: list[str] = option(["a"], "Parts.")

    def __post_init__(self) -> None:
        check_options(self, "sizes")


def test_values_of_the_right_type_are_taken() -> None:
    assert parse_options(Sizes, {"rate": 1, "count": 2, "parts": ["x", "y"]}, "sizes") == Sizes(1, 2, parts=["x", "y"])


def test_a_missing_section_gives_the_defaults() -> None:
    assert parse_options(Sizes, None, "sizes") == Sizes()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rate", -0.5, "above 0"),
        ("rate", 0, "above 0"),
        ("rate", 1.5, "at most 1"),
        ("rate", float("nan"), "finite"),
        ("rate", "abc", "a number"),
        ("rate", True, "a number"),
        ("count", 0, "at least 1"),
        ("count", 2.5, "a whole number"),
        ("count", "12", "a whole number"),
        ("name", 7, "text"),
        ("kind", "smal", "Did you mean 'small'"),
        ("parts", "a", "a list of text"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_what_was_expected(key: str, value: object, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_options(Sizes, {key: value}, "sizes")
    message = str(caught.value)
    assert f"sizes.{key} is {value!r}" in message
    assert said in message
    assert len(message.splitlines()) == 3


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ParameterError, match="Did you mean 'count'"):
        parse_options(Sizes, {"coun": 2}, "sizes")


@pytest.mark.parametrize("section", [3, "text", [1]])
def test_a_section_that_is_no_mapping_is_refused(section: object) -> None:
    with pytest.raises(ParameterError, match="sizes is"):
        parse_options(Sizes, section, "sizes")  # type: ignore[arg-type]


@given(st.floats(min_value=1e-9, max_value=1), st.integers(min_value=1))
def test_every_value_inside_the_range_is_kept_as_it_is(rate: float, count: int) -> None:
    options = parse_options(Sizes, {"rate": rate, "count": count}, "sizes")
    assert (options.rate, options.count) == (rate, count)


def test_the_expected_error_is_found_under_what_wraps_it() -> None:
    wanted, wrapper = FoundryError("problem", "expected", "remedy"), RuntimeError("wrapped")
    wrapper.__cause__ = wanted
    assert find_foundry_error(wrapper) is wanted
    assert find_foundry_error(ValueError("another")) is None


def test_nothing_is_suggested_for_a_name_unlike_any_other() -> None:
    assert suggestion("zzz", ["learning_rate"]) == ""


def test_options_are_also_a_mapping_that_keeps_its_values() -> None:
    sizes = Sizes(rate=1, kind="large")
    assert sizes["kind"] == sizes.kind == "large"
    assert dict(sizes) == {**sizes} == asdict(sizes) == json.loads(json.dumps(sizes))
    assert isinstance(sizes, Mapping)
    assert replace(sizes, count=5)["count"] == 5
    for change in (lambda: sizes.update(count=9), lambda: sizes.__setitem__("count", 9), lambda: sizes.pop("count")):
        with pytest.raises(TypeError, match="Sizes cannot be changed"):
            change()


def test_copies_of_options_are_equal_and_share_nothing() -> None:
    sizes = Sizes(parts=["x"])
    for copied in (copy.deepcopy(sizes), pickle.loads(pickle.dumps(sizes))):
        assert (copied, type(copied), copied["parts"]) == (sizes, Sizes, ["x"])
        assert copied.parts is not sizes.parts
    assert Sizes(count=4) != Sizes(count=5)


def test_a_number_where_text_is_expected_is_answered_with_quotes() -> None:
    with pytest.raises(ParameterError) as caught:
        Sizes(name=2024)  # type: ignore[arg-type]
    assert caught.value.remedy == "Set sizes.name in conf/ in quotes, or with --params 'sizes.name=\"2024\"'."
