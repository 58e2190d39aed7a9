"""Texts for users."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.base.text import format_duration, printable

UNITS = {"h": 3600, "min": 60, "s": 1}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (59.94, "59.9 s"), (59.96, "1 min"), (75, "1 min 15 s"), (3599.6, "1 h"), (7260, "2 h 1 min")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_duration_is_rounded_to_its_smaller_unit(seconds: float) -> None:
    parts = re.findall(r"([\d.e-]+) (h|min|s)", format_duration(seconds))
    shown = sum(float(number) * UNITS[unit] for number, unit in parts)
    assert abs(shown - seconds) <= (0.06 if seconds < 60 else 0.51 if seconds < 3599 else 31)


@given(st.text())
def test_printable_text_has_no_control_character_but_line_feeds(text: str) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", printable(text))
