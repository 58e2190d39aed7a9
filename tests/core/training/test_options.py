from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.training import TrainingOptions

BAD: list[tuple[str, Any]] = [
    ("learning_rate", -1e-3), ("learning_rate", float("nan")), ("learning_rate", "1e-3"), ("max_steps", 0),
    ("max_steps", 1.5), ("num_train_epochs", 0), ("gradient_accumulation_steps", 0), ("warmup_ratio", 1.1),
    ("beta2", 1.0), ("optimizer", "sgdw"), ("lr_scheduler_type", "cosin"), ("precision", "int8"), ("save_minutes", 0),
    ("save_total_limit", 0), ("early_stopping_patience", 0), ("label_smoothing", 1.0), ("seed", -1), ("eval_steps", 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_that_cannot_work_is_refused_with_its_key(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"training.{name} is {value!r}"):
        parse_options(TrainingOptions, {name: value}, "training")


def test_every_option_says_what_it_does() -> None:
    for field in dataclasses.fields(TrainingOptions):
        assert field.metadata["description"].endswith("."), field.name
