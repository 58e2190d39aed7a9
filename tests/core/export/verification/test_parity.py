"""What counts as equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.export.verification.parity import (
    Case,
    check_shapes,
    compare,
    judge,
    read_cases,
    write_cases,
)

LOGITS = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
MASK = np.array([[True, True, True], [True, False, False]])


def case(logits: np.ndarray = LOGITS, compared: np.ndarray | None = MASK) -> Case:
    return Case(2, 3, {"input_ids": np.ones((2, 3), np.int64)}, logits, compared)


def test_padding_is_not_compared() -> None:
    other = LOGITS.copy()
    other[1, 1:] = 99
    other[0, 2, 1] += 0.5
    assert compare(case(), other) == (0.5, "")


def test_all_logits_of_a_classifier_are_compared() -> None:
    labels = np.zeros((2, 3), np.float32)
    assert compare(case(labels), labels + 1) == (1.0, "")


def test_another_shape_is_a_problem() -> None:
    assert compare(case(), LOGITS[:, :2]) == (None, "output of shape (2, 2, 2) instead of (2, 3, 2)")


def test_infinities_must_be_where_the_models_are() -> None:
    blocked = LOGITS.copy()
    blocked[0, 0, 0] = -np.inf
    assert compare(case(blocked), blocked) == (0.0, "")
    assert compare(case(blocked), LOGITS)[0] is None
    assert compare(case(), blocked)[0] is None


def test_a_substitute_for_infinity_must_agree_too() -> None:
    blocked = LOGITS.copy()
    blocked[0, 0, 0] = -1e9
    assert compare(case(blocked), blocked + 0.5) == (0.5, "")
    assert compare(case(blocked), LOGITS)[0] is None


@given(st.integers(1, 5000))
def test_shapes_are_at_least_five_with_the_shortest_and_the_longest(longest: int) -> None:
    shapes = check_shapes(longest)
    assert len(set(shapes)) >= 5
    assert {1, longest} <= {length for _, length in shapes}
    assert all(1 <= length <= longest for _, length in shapes)


@pytest.mark.parametrize("compared", [MASK, None])
def test_cases_are_read_as_they_were_written(tmp_path: Path, compared: np.ndarray | None) -> None:
    write_cases([case(compared=compared)], tmp_path / "cases.safetensors")
    (read,) = read_cases(tmp_path / "cases.safetensors")
    assert (read.batch, read.length, list(read.inputs)) == (2, 3, ["input_ids"])
    assert compare(read, LOGITS) == (0.0, "")
    assert (read.compared is None) == (compared is None)


def test_a_result_names_the_worst_shape() -> None:
    rows = [
        {"batch": 1, "length": length, "max_abs_error": error, "problem": ""}
        for length, error in ((1, 0.1), (2, 0.3), (3, 0.2))
    ]
    assert judge(rows, "", bound=0.3).reason == ""
    assert "by 0.3 at (batch, length) = (1, 2)" in judge(rows, "", bound=0.05).reason
