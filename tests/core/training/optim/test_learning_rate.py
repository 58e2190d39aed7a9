from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.training import TrainingOptions, learning_rate_at

PAGE = Path(__file__).parents[4] / "docs" / "training.md"
NAMES = {field.name: field for field in dataclasses.fields(TrainingOptions)}["lr_scheduler_type"].metadata["choices"]
schedules = st.builds(
    TrainingOptions,
    learning_rate=st.floats(1e-6, 1.0),
    lr_scheduler_type=st.sampled_from(NAMES),
    warmup_ratio=st.floats(0, 1),
    decay_ratio=st.floats(0.01, 1),
    min_lr_ratio=st.just(0.0) | st.floats(1e-3, 1),
)


@given(schedules, st.integers(1, 3000), st.data())
def test_the_learning_rate_has_no_jump(options: TrainingOptions, total: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total))
    warmup = round(options.warmup_ratio * total)
    falling = total - warmup
    if options.lr_scheduler_type == "warmup_stable_decay":
        falling = min(falling, max(1, round(options.decay_ratio * total)))
    steepest = max(1 / max(1, warmup), math.pi / 2 / max(1, falling)) * options.learning_rate
    change = learning_rate_at(step + 1, total, options) - learning_rate_at(step, total, options)
    assert abs(change) <= steepest * 1.0001


@given(schedules, st.integers(1, 3000), st.integers(0, 5000))
def test_the_learning_rate_is_positive_and_at_most_the_peak(options: TrainingOptions, total: int, step: int) -> None:
    rate = learning_rate_at(step, total, options)
    assert 0 <= rate <= options.learning_rate * 1.0001
    assert rate > 0 or (options.min_lr_ratio == 0 and step >= total)


@given(schedules, st.integers(1, 500))
def test_the_learning_rate_rises_then_falls(options: TrainingOptions, total: int) -> None:
    warmup = round(options.warmup_ratio * total)
    rates = [learning_rate_at(step, total, options) for step in range(total)]
    assert rates[:warmup] == sorted(rates[:warmup])
    tail = rates[max(0, warmup - 1) :]
    assert all(later <= earlier * 1.0000001 for earlier, later in itertools.pairwise(tail))


FORMS = {"cosine": (0.55, 0.1), "linear": (0.55, 0.1), "constant": (1, 1), "warmup_stable_decay": (1, 0.1)}


@pytest.mark.parametrize("kind", NAMES)
def test_the_schedule_has_its_closed_form(kind: str) -> None:
    middle, last = FORMS[kind]
    options = TrainingOptions(learning_rate=2.0, lr_scheduler_type=kind, warmup_ratio=0.2, min_lr_ratio=0.1)
    assert learning_rate_at(0, 100, options) == pytest.approx(0.1)
    assert learning_rate_at(19, 100, options) == pytest.approx(2.0)
    assert learning_rate_at(60, 100, options) == pytest.approx(2.0 * middle)
    assert learning_rate_at(100, 100, options) == pytest.approx(2.0 * last)


@pytest.mark.parametrize("kind", NAMES)
def test_the_documentation_names_the_schedule(kind: str) -> None:
    [line] = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if "`training.lr_scheduler_type` is" in line
    ]
    assert f"`{kind}`" in line
