"""Numbers and sizes as users read them."""

from __future__ import annotations

import math

import pytest

from transformer_foundry.core.base.text import format_number, format_size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"),
        (156305.0, "156,305"),
        (12345.6, "12,346"),
        (5.015269876, "5.015"),
        (0.00012346, "0.0001235"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (True, "True"),
        (None, "-"),
        ("text", "text"),
    ],
)
def test_a_number_is_shown_with_four_digits_and_anything_else_as_it_is(value: object, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(299, "299 B"), (2048, "2 KiB"), (3505936, "3.34 MiB"), (5 * 2**30, "5 GiB"), (None, "-"), (True, "-")],
)
def test_a_size_is_shown_in_its_largest_unit(size: object, shown: str) -> None:
    assert format_size(size) == shown
