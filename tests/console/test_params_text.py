"""--params: what is written in quotes is read back, and what is unclear is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from transformer_foundry.console.params_text import params_text, parse_params, value_text
from transformer_foundry.core.base.errors import ParameterError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def as_kedro_reads(given: dict[str, Any]) -> Any:
    return OmegaConf.to_container(OmegaConf.unsafe_merge(OmegaConf.create({}), given), resolve=True)


@settings(max_examples=150, deadline=None)
@given(st.text(), st.text())
@example("a,b", "x # y")
@example("${globals:seed}", "a\\\\${x}")
def test_every_text_in_quotes_is_read_back(first: str, second: str) -> None:
    quoted = {"run": {"name": first, "preparation": second}}
    assert as_kedro_reads(parse_params(params_text(parse_params(params_text(quoted))))) == as_kedro_reads(
        parse_params(params_text(quoted))
    )
    if "${" not in first + second:
        assert parse_params(params_text(quoted)) == quoted


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, min_size=1))
def test_every_value_that_is_written_is_read_back(values: dict[str, Any]) -> None:
    if "${" not in repr(values):
        assert parse_params(params_text({"s": values})) == {"s": values}


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab0 #:,[]{}'\"\\=-~on&*!1.e_"))
def test_a_text_without_quotes_is_read_as_it_is_or_refused(text: str) -> None:
    try:
        read = parse_params(f"k={text}")
    except ParameterError:
        return
    if isinstance(read["k"], str) and text.strip()[:1] not in "'\"":
        assert text.replace(" ", "").startswith(read["k"].replace(" ", ""))
        assert read["k"] in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=data/my file.csv", "data/my file.csv"),
        ("k=s3://bucket/a#b", "s3://bucket/a#b"),
        ("k=it's", "it's"),
        ("k=[a, 'b,c', 3]", ["a", "b,c", 3]),
        ("k='a, b'", "a, b"),
        ('k="a # b"', "a # b"),
        ("k=1e-3", 1e-3),
        ("k=off", False),
        ("k=null", None),
        ("k=2026-01-01", "2026-01-01"),
        ("k=''", ""),
        ("k=${globals:seed}", "${globals:seed}"),
        ("k='${globals:seed}'", "\\${globals:seed}"),
    ],
)
def test_values_are_read_as_yaml(text: str, value: Any) -> None:
    assert parse_params(text) == {"k": value}


@pytest.mark.parametrize(
    "text",
    ["k=a #b", "k=a,b", "k=007", "k=12:30:00", "k=1_000", "k=", "k=a: b", "k=*.csv", "k='a", "k=[1", "k=1,k=2",
     "k=1,k.a=2", "=1", "a b=1", "k=- a", "k=&a b", "k=!t b", "k==", "k=[a #b]"],
)  # fmt: skip
def test_what_is_unclear_is_refused_in_three_lines(text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_params(text)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["a #b", "007", "12:30:00", "a: b", "*.csv", "- a", "!t b", "1_000"])
def test_the_suggested_quotes_work(text: str) -> None:
    assert parse_params(f"k={value_text(text)}") == {"k": text}
    with pytest.raises(ParameterError) as caught:
        parse_params(f"k={text}")
    import shlex

    suggested = shlex.split(caught.value.remedy.partition("--params ")[2].removesuffix("."))
    assert parse_params(suggested[0]) == {"k": text}
